"""Shows the requests of a run before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..core.events import Row
from ..core.options import Options, takes_options
from ..core.plain_text import printable
from ..display import html
from ..modules.module import from_module
from ..tables.rows import read_rows


@dataclass(frozen=True)
class Preview:
    """The result of `preview`; a notebook shows it as HTML.

    Attributes:
        requests: the request bodies, one per row: `messages`, `response_format` with the schema,
            the model and its parameters. For a custom LM: the arguments of its `complete`.
        endpoint: the destination of the requests.
    """

    requests: Sequence[dict[str, Any]]
    endpoint: str

    def _parts(self) -> list[tuple[str, str]]:
        """(title, text) of the parts that all rows share, then of each row."""
        first = self.requests[0]
        shared = {k: v for k, v in first.items() if k not in ("messages", "response_format")}
        schema = first.get("schema") or first.get("response_format", {}).get("json_schema", {})
        parts = [("sent to " + self.endpoint, json.dumps(shared, ensure_ascii=False, default=repr))]
        parts += [("schema of the answer", json.dumps(schema, ensure_ascii=False, indent=1))]
        parts += [(m["role"], content_text(m["content"])) for m in first["messages"][:-1]]
        last = (request["messages"][-1] for request in self.requests)
        words = ((m["role"], content_text(m["content"])) for m in last)
        return parts + [(f"{role}, row {i}", text) for i, (role, text) in enumerate(words)]

    def __repr__(self) -> str:
        return "\n\n".join(f"[{title}]\n{printable(text)}" for title, text in self._parts())

    def _repr_html_(self) -> str:
        return html.box([html.passage(*part) for part in self._parts()], html.BLUE)


def content_text(content: Any) -> str:
    """A message's content as text; of an image only the beginning."""
    if isinstance(content, str):
        return content
    return "\n".join(p.get("text") or f"[{p['image_url']['url'][:60]}…]" for p in content)


def _asked(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if not row.is_blank)


@takes_options
def preview(module: Any, inputs: Any, *, n: int = 3, **options: Any) -> Preview:
    """The exact messages and schema of the first `n` rows; nothing is called. A row of a frame,
    or of a result (`df.loc[5]`), is one row.

    Raises:
        ValueError, TypeError: bad input, as in `run_parallel`; no rows; or a module whose requests
            cannot be seen (a function may send anything).
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n!r}")
    described, given = from_module(module), Options.of(options)
    described = described.with_confidence() if given.confidence else described
    if not described.requests_are_known:
        raise TypeError(
            f"the requests of {described.name!r} cannot be seen before they are sent; preview "
            "works for Predict and the modules built on it"
        )
    if hasattr(inputs, "to_frame") and set(described.inputs.required) <= set(inputs.index):
        inputs = inputs.to_frame().T  # one row of a frame
    batch = read_rows(inputs, described.inputs, described.outputs, given)
    requests = [described.source.request(row.inputs) for row in islice(_asked(batch.rows), n)]
    if not requests:
        raise ValueError("there are no rows to preview")
    return Preview(requests, str(module.lm))
