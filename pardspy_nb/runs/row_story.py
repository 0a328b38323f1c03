"""One row's story: what was asked, what came back each time, and what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..core.events import Answer, Row
from ..core.options import Options
from ..core.plain_text import printable
from ..display import html
from ..modules.module import Module, from_module
from ..modules.provenance import Sources
from ..store.cache import open_cache
from ..tables.frame import class_outputs
from ..tables.inputs import again
from ..tables.names import own_names, renamed_in
from ..tables.rows import shape_of
from ..tables.values import is_missing
from .attempts import FailedAttempt
from .preview import content_text
from .registry import attempts_of, module_of
from .result_rows import input_columns, named_columns, samples_of

_FIGURES = (
    *("error_type", "error", "repaired", "attempts", "cached", "latency_ms", "queued_ms"),
    *("waited_ms", "started_at", "prompt_tokens", "completion_tokens", "total_tokens"),
    *("cost_usd", "model", "finish_reason"),
)
_NOT_KNOWN = "not known here: pass the module, df.parallel.row(label, predict)"


@dataclass(frozen=True)
class RowStory:
    """What became of one row; a notebook shows it as HTML.

    Attributes:
        label: the row's label in the index.
        status: as in the frame.
        inputs: as the module was given them.
        messages: the messages of the first attempt, word for word; None where they are not known
            (a function sends what it likes; the module is not known in this process).
        failed: the attempts without an answer, as far as they are kept (`keep=`).
        answer: what came back word for word, from the store; None if it is not there.
        outputs: the frame's values, with the probabilities of labels.
        figures: tokens, cost, latency, model, finish reason and the like, as in the frame.
        remembered_since: when the answer in the store was given (UTC); None if it is not there.
    """

    label: Any
    status: str
    inputs: dict[str, Any]
    messages: list[Any] | None
    failed: list[FailedAttempt]
    answer: str | None
    outputs: dict[str, Any]
    figures: dict[str, Any]
    remembered_since: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "label": self.label,
            "status": self.status,
            "inputs": self.inputs,
            "messages": self.messages,
            "failed_attempts": [attempt._asdict() for attempt in self.failed],
            "answer": self.answer,
            "outputs": self.outputs,
            **self.figures,
            "remembered_since": self.remembered_since,
        }

    def parts(self) -> list[tuple[str, str]]:
        """What is shown, as (title, text)."""
        parts = [(f"row {self.label!r}", self.status)]
        parts += [(f"input {name}", _text(value)) for name, value in self.inputs.items()]
        if self.messages is None:
            parts.append(("messages", _NOT_KNOWN))
        for message in self.messages or ():
            parts.append((f"sent: {message['role']}", content_text(message["content"])))
        for attempt in self.failed:
            told = f"{attempt.error_type}: {attempt.error}"
            if attempt.came_back is not None:
                told += f"\ncame back: {attempt.came_back}"
            if attempt.waited_s is not None:
                why = "the endpoint" if attempt.is_outage else "the next attempt"
                told += f"\nwaited {attempt.waited_s:.1f} s for {why}"
            parts.append((f"attempt {attempt.number} failed", told))
        if self.answer is not None:
            parts.append(("came back", self.answer))
        parts += [(f"output {name}", _text(value)) for name, value in self.outputs.items()]
        figures = {name: value for name, value in self.figures.items() if value is not None}
        parts.append(("figures", ", ".join(f"{name} {value}" for name, value in figures.items())))
        if self.remembered_since is not None:
            parts.append(("remembered", f"since {self.remembered_since:%Y-%m-%d %H:%M} UTC"))
        return parts

    def __repr__(self) -> str:
        return "\n\n".join(f"[{title}]\n{printable(text)}" for title, text in self.parts())

    def _repr_html_(self) -> str:
        edge = html.BLUE if self.status == "ok" else html.ORANGE
        return html.box([html.passage(title, text) for title, text in self.parts()], edge)


def row_story(df: Any, label: Any, module: Any = None, *, sample: int | None = None) -> RowStory:
    """The story of one row of a result.

    Args:
        df: a result, also one of a run that was interrupted, or read back from a file.
        label: the row's label in the index.
        module: the module that made the frame, where this process does not know it (for the
            messages, and for the answer in the store).
        sample: which of several samples.

    Raises:
        KeyError: no such row, or several.
    """
    place = _place(df, label, sample)
    about = df.attrs.get("pardspy", {})
    made_by = module_of(about.get("run"))
    described, options = (None, Options()) if made_by is None else made_by
    if module is not None:
        described = from_module(module)
        kept = about.get("options", {})
        store = kept.get("store") if made_by is None else options.store
        options = replace(options, store=store)
    values = own_names(df).iloc[place]
    row = None if described is None else _row(df, place, described, about, options)
    is_told = described is not None and row is not None and values["status"] == "ok"
    known = _known(described, options, row) if is_told else None  # type: ignore[arg-type]
    if known is not None and described is not None and row is not None:
        known = known._replace(text=_words(known.text, _asked(described, row)))
    is_one = described is not None and not isinstance(described.source, list | tuple)
    failed = attempts_of(about.get("run")) if is_one else None  # equal inputs of several modules
    inputs = [name for name in about.get("inputs", []) if name in df.columns]
    origin = None if known is None else known.origin
    return RowStory(
        label,
        str(values["status"]),
        {str(n): df[n].iloc[place] for n in inputs} if row is None else dict(row.inputs),
        None if described is None or row is None else _messages(described, row),
        [] if failed is None or row is None else failed.of(row.inputs, row.sample),
        None if known is None else known.text,
        _outputs(df, place, about),
        _figures(values),
        None if origin is None or origin.at is None else datetime.fromtimestamp(origin.at, UTC),
    )


def _place(df: Any, label: Any, sample: int | None) -> int:
    is_it = np.array([bool(is_one) for is_one in _equal(df.index, label)])
    plain = own_names(df)
    if sample is not None and "sample" in plain.columns:
        is_it &= plain["sample"].eq(sample).to_numpy()
    found = np.flatnonzero(is_it)
    if len(found) != 1:
        hint = "; pass sample=" if len(found) > 1 and "sample" in plain.columns else ""
        how_many = f"{len(found)} rows have" if len(found) else "no row has"
        raise KeyError(f"{how_many} the label {label!r} in the index{hint}")
    return int(found[0])


def _equal(index: Any, label: Any) -> list[bool]:
    """Which labels of an index are this one; a missing label is none."""
    if getattr(index, "nlevels", 1) > 1:
        return [own == label for own in index]
    return [not is_missing(own) and own == label for own in index.tolist()]


def _row(df: Any, place: int, module: Module, about: Any, options: Options) -> Row | None:
    shape = replace(shape_of(options, 1), columns=named_columns(module, about, options))
    columns = input_columns(df, module, about, shape)
    samples = samples_of(df, [place])
    try:
        batch = again(df.iloc[[place]][columns], module.inputs, [place], samples, shape)
        row = next(iter(batch.rows))
        stage: Any = own_names(df)["stage"].iloc[place] if module.router is not None else None
        return row if is_missing(stage) else row._replace(stage=int(stage) - 1)
    except (ValueError, TypeError, StopIteration):  # the frame lacks an input by now
        return None


def _messages(module: Module, row: Row) -> list[Any] | None:
    source = _asked(module, row)
    if not module.requests_are_known or not hasattr(source, "request"):
        return None  # several modules: which one it was is not known by the frame
    messages: list[Any] = source.request(row.inputs)["messages"]
    return messages


def _known(module: Module, options: Options, row: Row) -> Answer | None:
    """What the store holds of the row."""
    if not options.store or not options.dedupe:
        return None  # without `dedupe` equal rows have several answers
    cache = open_cache(options, module, Sources(module, options.cache_key), total=1)
    if cache is None:
        return None
    try:
        return cache.get(row, cache.key(row))
    finally:
        cache.close()


def _asked(module: Module, row: Row) -> Any:
    """The module that answered a row; of a cascade, the one of the row's stage."""
    return module.source if module.router is None else module.each[row.stage]


def _words(text: str | None, source: Any) -> str | None:
    """What came back; with confidence the store holds it beside the probabilities."""
    if text is not None and getattr(source, "is_confident", False):
        text = json.loads(text)[0]
    return text


def _outputs(df: Any, place: int, about: Any) -> dict[str, Any]:
    renamed = renamed_in(df)
    names = {name: renamed.get(name, name) for name in about.get("outputs", [])}
    found = {name: df[column].iloc[place] for name, column in names.items() if column in df.columns}
    for name in list(class_outputs(df)) if "pardspy" in df.attrs else []:
        if (more := f"{name}_probabilities") in df.columns:
            found.setdefault(more, df[more].iloc[place])
    return found


def _figures(values: Any) -> dict[str, Any]:
    return {n: _plain(values[n]) for n in _FIGURES if n in values.index}


def _plain(value: Any) -> Any:
    if is_missing(value):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)
