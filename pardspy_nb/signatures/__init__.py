"""What is asked and how an answer is read: fields, signatures, images, output parser."""
