"""The messages that ask for a signature's outputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.errors import InvalidOutputError, TruncatedOutputError
from ..llm.response_format import in_words
from ..signatures.fields import Field
from ..signatures.image import Image
from ..signatures.signature import Signature

_NO_INPUTS = "Answer now."  # the user's message where a signature has no inputs
_MAX_SHOWN = 1000  # characters of a rejected answer that are sent back


class Prompt:
    """Writes messages for one signature.

    Args:
        signature: the inputs and outputs.
        demos: worked examples, dicts with every required input and output.
        schema: the JSON schema of the answer.

    Attributes:
        system: the message with instructions and fields.
        examples: two messages for each demo.

    Raises:
        ValueError: a demo lacks a field.
    """

    def __init__(
        self, signature: Signature, demos: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]
    ) -> None:
        self._signature, self._schema = signature, schema
        self._images = [n for n, f in signature.inputs.items() if f.value_type is Image]
        self.system = {"role": "system", "content": _system_text(signature)}
        self.examples = [m for i, demo in enumerate(demos) for m in self._example(i, demo)]

    def messages(
        self,
        inputs: Mapping[str, Any],
        rejected: InvalidOutputError | None = None,
        past: Sequence[Mapping[str, Any]] = (),
    ) -> list[Any]:
        """The messages for one row.

        Args:
            inputs: the inputs of the row.
            rejected: an earlier answer that did not fit, which is sent back.
            past: the messages of the conversation so far.
        """
        user = {"role": "user", "content": self._content(inputs, rejected)}
        return [self.system, *self.examples, *past, user]

    def words(self, inputs: Mapping[str, Any]) -> str:
        """A row's own part of the prompt, with a hash in place of each image."""
        lines = []
        for name, field in self._signature.inputs.items():
            value = inputs.get(name)
            if value is not None:
                shown = Image.of(value).digest if name in self._images else field.render(value)
                lines.append(f"{name}: {shown}")
        return "\n".join(lines)

    def _content(self, inputs: Mapping[str, Any], rejected: InvalidOutputError | None) -> Any:
        """The user's message: the inputs, images beside the text, a rejected answer."""
        if not self._images:
            words = self.words(inputs) if self._signature.inputs else _NO_INPUTS
            return words if rejected is None else f"{words}\n\n{self._sent_back(rejected)}"
        images = {n: inputs[n] for n in self._images if inputs.get(n) is not None}
        numbered = {n: f"(image {i})" for i, n in enumerate(images, 1)}
        lines = [self.words({n: v for n, v in inputs.items() if n not in images})]
        lines += [f"{name}: {number}" for name, number in numbered.items()]
        lines += [] if rejected is None else ["", self._sent_back(rejected)]
        text = {"type": "text", "text": "\n".join(filter(None, lines))}
        return [text, *(Image.of(value).part for value in images.values())]

    def _sent_back(self, error: InvalidOutputError) -> str:
        """The text about an earlier answer and its error.

        The text is part of the message with the inputs, because some models do not accept two
        messages of one role in succession.
        """
        said = (error.text or "")[:_MAX_SHOWN]
        keys = ", ".join(self._signature.outputs)
        lines = [
            "An earlier answer to this could not be used.",
            f"It was: {said}" if said else "",
            f"What was wrong: {error}",
            f"Answer again with one JSON object with the keys {keys}, and nothing else.",
            in_words(self._schema),  # the endpoint may have ignored it
        ]
        if isinstance(error, TruncatedOutputError):
            lines.append("Be much shorter.")
        return "\n".join(filter(None, lines))

    def _example(self, index: int, demo: Mapping[str, Any]) -> list[dict[str, str]]:
        outputs = self._signature.outputs
        fields = {**self._signature.inputs, **outputs}
        missing = [n for n, f in fields.items() if n not in demo and not f.optional]
        if missing:
            raise ValueError(f"demo {index} lacks {', '.join(missing)}")
        answer = {
            name: field.adapter.dump_python(field.adapter.validate_python(demo[name]), mode="json")
            for name, field in outputs.items()
            if name in demo
        }
        return [
            {"role": "user", "content": self.words(demo)},
            {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)},
        ]


def _system_text(signature: Signature) -> str:
    """Instructions and fields; the same for every row, so providers can cache it."""

    def lines(fields: Mapping[str, Field]) -> list[str]:
        return [
            f"- {f.name} ({f.type_name}{', optional' if f.optional else ''})"
            + (f": {f.description}" if f.description else "")
            for f in fields.values()
        ]

    parts = [signature.instructions, ""]
    parts += ["Inputs:", *lines(signature.inputs), ""] if signature.inputs else []
    parts += ["Outputs:", *lines(signature.outputs), ""]
    parts += ["Answer with one JSON object with the keys " + ", ".join(signature.outputs) + "."]
    return "\n".join(parts)
