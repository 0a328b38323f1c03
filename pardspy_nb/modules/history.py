"""A conversation that a module keeps from call to call."""

from __future__ import annotations


class History:
    """The messages so far, oldest first; at most `max_messages` of them (None: all).

    A history belongs to one module and is never shared between workers: give each row its own
    with `Parallel.from_factory`, or each worker its own with `Parallel.from_instances`.
    """

    def __init__(self, max_messages: int | None = None) -> None:
        if max_messages is not None and max_messages < 2:
            raise ValueError("max_messages must be at least 2 (one question and its answer)")
        self.max_messages = max_messages
        self.messages: list[dict[str, str]] = []

    def add(self, user: str, assistant: str) -> None:
        """Add one exchange, and drop the oldest exchanges beyond `max_messages`."""
        self.messages += [
            {"role": "user", "content": user},
            {"role": "assistant", "content": assistant},
        ]
        if self.max_messages is not None:
            # drop whole exchanges: an answer without its question would mislead
            keep = self.max_messages - self.max_messages % 2
            del self.messages[: max(0, len(self.messages) - keep)]

    def clear(self) -> None:
        """Forget everything."""
        self.messages.clear()

    def __len__(self) -> int:
        return len(self.messages)

    def __repr__(self) -> str:
        return f"History({len(self)} messages)"
