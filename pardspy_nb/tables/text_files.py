"""Reads .csv and .jsonl files. Text stays text, and a line that does not parse is named.

Every way into a run reads such a file with this class, so a row means the same by all of them. The
type of a column is decided over the whole file.

- csv: a column is whole numbers or decimal numbers only if each value is written as Python writes
  that number (`7`, `0.5`), so that nothing is lost: `007`, `1_000`, `1e5` and `1.50` are text, and
  so is all else. An empty cell is missing; `NA`, `None` and `null` are text. Lines without any
  character are left out.
- jsonl: JSON has types of its own, which stay. A key that a line lacks is missing.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .column_types import TEXT, text_column

_LONGEST_FIELD = 2**31 - 1  # characters; csv's own limit is 131,072
_INT64 = range(-(2**63), 2**63)
_EXACT = 2**53  # whole numbers beyond this have no exact float (IEEE 754)


class _Place(NamedTuple):
    """Where a chunk begins: bytes from the start of the file, and the number of its line."""

    offset: int
    line: int


class TextFile:
    """A .csv or .jsonl file that was looked through once, and is read in chunks.

    Args:
        rows: rows of a chunk; None for one chunk.
        texts: columns of a csv that are text, whatever they look like.

    Attributes:
        columns: the names, in the order of their first appearance.
        n_rows: the number of rows.
        n_chunks: the number of chunks, at least 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file does not parse; the message has its name, the line and the remedy.
    """

    def __init__(self, path: Path, rows: int | None = None, texts: Iterable[str] = ()) -> None:
        if not path.exists():
            raise FileNotFoundError(f"there is no file {str(path)!r}")
        self._path, self._rows = path, rows
        self._is_csv = path.suffix.lower() == ".csv"
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise ValueError(
                    f"cannot read {str(path)!r}: it is compressed (gzip); unpack it, or read it "
                    "first: pd.read_csv(path, compression='gzip', dtype=str)"
                )
        self._starts: list[_Place] = []
        self._commas = 0  # lines of a csv that end in a comma which no name stands before
        self.n_rows = 0
        self.columns: list[str] = []
        self._kinds: dict[str, str] = {}
        self._see_all(frozenset(texts))

    @property
    def n_chunks(self) -> int:
        return max(1, len(self._starts))

    def chunk(self, number: int) -> pd.DataFrame:
        """The rows of a chunk, with the index 0, 1, 2, … of this chunk."""
        records: Iterator[Any] = iter(())
        if number < len(self._starts):
            some = self._records(self._starts[number])
            records = (record for _, record in some)
        columns: dict[str, list[Any]] = {name: [] for name in self.columns}
        for record in itertools.islice(records, self._rows):
            values = record if self._is_csv else (record.get(name) for name in self.columns)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        return pd.DataFrame({name: self._typed(name, of) for name, of in columns.items()})

    def chunks(self) -> Iterator[pd.DataFrame]:
        """All chunks, in order."""
        return map(self.chunk, range(self.n_chunks))

    # -- looking through ----------------------------------------------------------------------

    def _see_all(self, texts: frozenset[str]) -> None:
        start = _Place(0, 1)
        if self._is_csv:
            start = self._read_header()
        kinds = {name: _Kind(is_text=name in texts) for name in self.columns}
        see = self._see_csv if self._is_csv else self._see_json
        for place, record in self._records(start):
            if not (self.n_rows % self._rows if self._rows else self._starts):
                self._starts.append(place)
            self.n_rows += 1
            see(record, kinds)
        if self._commas not in (0, self.n_rows):
            raise self._ragged(self._comma_at, len(self.columns) + 1)
        self.columns = list(kinds)
        if not self.columns:
            raise ValueError(f"cannot read {str(self._path)!r}: it is empty")
        self._kinds = {
            name: kind.of_csv(self.n_rows) if self._is_csv else kind.of_json(self.n_rows)
            for name, kind in kinds.items()
        }

    @staticmethod
    def _see_csv(record: list[str], kinds: dict[str, _Kind]) -> None:
        for kind, text in zip(kinds.values(), record, strict=True):
            if kind.may_be_number and text:
                kind.see_text(text)

    @staticmethod
    def _see_json(record: dict[str, Any], kinds: dict[str, _Kind]) -> None:
        for name, value in record.items():
            kind = kinds.get(name)
            if kind is None:
                kind = kinds[name] = _Kind()
            kind.see_value(value)

    def _bad(self, line: int, problem: str, remedy: str) -> ValueError:
        return ValueError(f"cannot read {str(self._path)!r}: line {line}: {problem}; {remedy}")

    def _lines(self, start: _Place, seen: list[_Place]) -> Iterator[str]:
        """The lines of the file as text. `seen[0]` is the place of the line that comes next."""
        place = start
        with self._path.open("rb") as file:
            file.seek(start.offset)
            for line in file:
                try:
                    text = line.decode("utf-8-sig" if place.offset == 0 else "utf-8")
                except UnicodeDecodeError as error:
                    raise self._bad(
                        place.line, f"byte {error.start} of it is not UTF-8", self._in_utf8
                    ) from error
                seen[0] = place = _Place(place.offset + len(line), place.line + 1)
                yield text

    @property
    def _in_utf8(self) -> str:
        """The remedy for a file in another encoding."""
        with self._path.open("rb") as file:
            begins = file.read(2)
        encoding = "utf-16" if begins in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        if self._is_csv:
            read = f"pd.read_csv(path, encoding={encoding!r}, dtype=str)"
            return f"read the file with its own encoding and pass the frame: {read}"
        written = f"Path(path).read_text({encoding!r})"
        return f"write the file in UTF-8: Path('new.jsonl').write_text({written}, 'utf-8')"

    def _records(self, start: _Place) -> Iterator[tuple[_Place, Any]]:
        return self._csv_records(start) if self._is_csv else self._json_records(start)

    # -- csv ----------------------------------------------------------------------------------

    @contextmanager
    def _parsing(self, seen: list[_Place]) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            raise self._bad(
                seen[0].line - 1, str(error), "mend the quotes, or pass a frame that you have read"
            ) from error

    def _read_header(self) -> _Place:
        seen = [_Place(0, 1)]
        reader = _csv_reader(self._lines(seen[0], seen))
        with self._parsing(seen):
            header = next((record for record in reader if record), None)
        if header is None:
            raise ValueError(
                f"cannot read {str(self._path)!r}: it is empty; a .csv begins with the names of "
                "its columns"
            )
        self._ends_in_comma = len(header) > 1 and header[-1] == ""
        header = header[:-1] if self._ends_in_comma else header
        if twice := {name for name in header if header.count(name) > 1}:
            raise self._bad(1, f"columns of the same name: {sorted(twice)}", "rename one of them")
        self.columns = header
        return seen[0]

    def _csv_records(self, start: _Place) -> Iterator[tuple[_Place, list[str]]]:
        seen, width = [start], len(self.columns)
        reader = _csv_reader(self._lines(start, seen))
        with self._parsing(seen):
            while True:
                place = seen[0]
                record = next(reader, None)
                if record is None:
                    return
                if not record:
                    continue
                if len(record) == width + 1 > 2 and record[-1] == "":
                    record = record[:-1]  # a comma at the end, as of every line
                    self._commas, self._comma_at = self._commas + 1, place.line
                elif self._ends_in_comma or len(record) != width:
                    raise self._ragged(place.line, len(record))
                yield place, record

    def _ragged(self, line: int, values: int) -> ValueError:
        header = f"the header has {len(self.columns)} names"
        return self._bad(
            line,
            f"{values} values, and {header}",
            "quote values that hold a comma, or mend the line",
        )

    # -- jsonl --------------------------------------------------------------------------------

    def _json_records(self, start: _Place) -> Iterator[tuple[_Place, dict[str, Any]]]:
        place, seen = start, [start]
        for text in self._lines(start, seen):
            if text.strip():
                yield place, self._object(text, place.line)
            place = seen[0]

    def _object(self, text: str, line: int) -> dict[str, Any]:
        try:
            value = json.loads(text, object_pairs_hook=_without_repeats, parse_float=_finite_number)
            if "\\ud" in text.lower():  # half a surrogate pair, which no table can hold
                json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise self._bad(line, f"it is no JSON ({error})", "mend the line") from error
        if not isinstance(value, dict):
            raise self._bad(line, "it is no JSON object", "write one object a line: {…}")
        return value

    def _typed(self, name: str, values: list[Any]) -> Any:
        kind = self._kinds[name]
        if self._is_csv:
            convert = {"int64": int, "float64": float}.get(kind.lower(), str)
            values = [None if text == "" else convert(text) for text in values]
        if kind == "object":
            return pd.Series(values, dtype=object).array
        if kind == TEXT:
            return text_column(values)
        return pd.array(values, dtype=kind)  # type: ignore[call-overload]


def _csv_reader(lines: Iterable[str]) -> Any:
    csv.field_size_limit(_LONGEST_FIELD)
    return csv.reader(lines, strict=True)


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is larger than any number")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name comes twice in one object")
    return value


class _Kind:
    """The type that fits all values of a column so far."""

    def __init__(self, *, is_text: bool = False) -> None:
        self.may_be_number = self._may_be_int = not is_text
        self._types: set[type] = set()
        self._present = 0
        self._is_exact = self._fits_int64 = True

    def see_text(self, text: str) -> None:
        """Look at a cell of a csv that is not empty."""
        self._present += 1
        if _is_int(text):
            self._is_exact = self._is_exact and abs(int(text)) <= _EXACT
        else:
            self._may_be_int = False
            if not _is_float(text):
                self.may_be_number = False

    def see_value(self, value: Any) -> None:
        """Look at a value of JSON."""
        if value is None:
            return
        self._present += 1
        self._types.add(type(value))
        if type(value) is int:
            self._is_exact = self._is_exact and abs(value) <= _EXACT
            self._fits_int64 = self._fits_int64 and value in _INT64

    def of_csv(self, rows: int) -> str:
        """pandas' name of the type of a csv's column, in a file of so many rows."""
        is_number = self.may_be_number and (self._may_be_int or self._is_exact)
        if not (is_number and self._present):
            return TEXT
        kind = "int64" if self._may_be_int else "float64"
        return kind if self._present == rows else kind.capitalize()

    def of_json(self, rows: int) -> str:
        """pandas' name of the type of a column of JSON, in a file of so many rows."""
        if self._types == {str}:
            return TEXT
        is_whole = self._present == rows
        if self._types == {bool}:
            return "bool" if is_whole else "boolean"
        if self._types == {int} and self._fits_int64:
            return "int64" if is_whole else "Int64"
        if self._types == {float} or (self._types == {int, float} and self._is_exact):
            return "float64" if is_whole else "Float64"
        return "object"


def _is_int(text: str) -> bool:
    try:
        number = int(text)
    except ValueError:
        return False
    return str(number) == text and number in _INT64


def _is_float(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and repr(number) == text
