"""A human looks at some rows of a result and decides: durable, resumable, and countable."""

from __future__ import annotations

import getpass
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..core.labels import keys_of, label_key, plain_label
from ..store.decisions import Decision, Decisions
from ..tables.frame import class_outputs
from ..tables.names import column_of
from ..tables.values import is_missing
from .agreement import agreement_of
from .picks import PICKS, Pick, draw, inclusion, permanent_numbers
from .review_frame import check_frame, confidence_of, row_keys, told_apart


class Review:
    """A sample of a result's rows for a human to decide: what `df.parallel.review` returns.

    In a notebook it shows one row at a time, with a button for each label. Each decision is on the
    disk at once, beside the store, and is found again by the row's inputs: after a restart, in
    another frame with the same rows, or in next month's larger table.

    Attributes:
        output: the column that is decided.
        reviewer: whose decisions this review takes.
        pick: how the rows were picked.
        labels: the labels to choose from; empty where none are declared.
        places: positions of the picked rows in the frame, in the order they are shown.
        probabilities: each picked row's probability of having been picked, in the same order.
    """

    def __init__(
        self,
        df: pd.DataFrame,
        output: str,
        *,
        n: int = 50,
        pick: Pick = "random",
        by: str | None = None,
        reviewer: str | None = None,
        show_answer: bool = False,
    ) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n!r}")
        if pick not in PICKS:
            raise ValueError(f"pick must be one of {', '.join(PICKS)}, got {pick!r}")
        if by is not None and pick != "stratified":
            raise ValueError('by= names the strata of pick="stratified"')
        check_frame(df, output, by)
        self._df, self.output, self.pick = df, output, pick
        self._how: dict[str, Any] = {"n": n, "pick": pick, "by": by, "reviewer": reviewer}
        self.reviewer = getpass.getuser() if reviewer is None else reviewer
        self.show_answer = show_answer
        about = df.attrs["pardspy"]
        self._inputs = [name for name in about["inputs"] if name in df.columns]
        columns = about.get("options", {}).get("columns") or {}
        self._named = {column: name for name, column in columns.items() if isinstance(column, str)}
        self.labels = list(class_outputs(df).get(output, []))
        self._decisions = Decisions(about.get("options", {}).get("store"))
        self._keys = row_keys(df, self._inputs)
        answered = np.flatnonzero(df[column_of(df, "status")].eq("ok").to_numpy())
        if not len(answered):
            raise ValueError("no row has an answer, so there is nothing to review")
        rows = df.iloc[answered]
        strata = rows[by or output] if pick == "stratified" else None
        chances = inclusion(pick, n, len(rows), strata, confidence_of(rows, output, pick))
        keys = told_apart([self._keys[place] for place in answered])
        picked = draw(chances, permanent_numbers(keys, "picked"), min(n, len(rows)))
        picked = picked[np.argsort(permanent_numbers([keys[i] for i in picked], "order"))]
        self.places: list[int] = answered[picked].tolist()
        self.probabilities: list[float] = chances[picked].tolist()

    def on(self, df: pd.DataFrame) -> Review:
        """The same review of another frame of the same rows, or of some of them: the rows that were
        picked here stay the picked ones, with the probabilities that they had."""
        if df is self._df:
            return self
        other = Review(df, self.output, **self._how)
        mine = told_apart(self._keys)
        picked = dict(zip((mine[p] for p in self.places), self.probabilities, strict=True))
        found = [(place, key) for place, key in enumerate(told_apart(other._keys)) if key in picked]
        other.places = [place for place, _ in found]
        other.probabilities = [picked[key] for _, key in found]
        return other

    # -- deciding -----------------------------------------------------------------------------

    def decide(self, label: Any, value: Any, note: str | None = None) -> None:
        """Decide a row; it is on the disk when this returns.

        Args:
            label: the row's label in the frame's index.
            value: what is right; None takes an earlier decision back.
            note: a remark.

        Raises:
            KeyError: no such row, or several.
            ValueError: the value is none of the labels.
            StoreError: the decision cannot be kept.
        """
        self.decide_at(self._place(label), value, note)

    def decide_at(self, place: int, value: Any, note: str | None = None) -> None:
        """As `decide`, for the row at a position of the frame."""
        chances = dict(zip(self.places, self.probabilities, strict=True))
        self._decisions.add(
            Decision(
                self._keys[place],
                self.output,
                self.reviewer,
                None if value is None else self._checked(value),
                note,
                chances.get(place),
                self.pick if place in chances else None,
                time.time(),
            )
        )

    def _place(self, label: Any) -> int:
        found = np.flatnonzero(pd.Series(self._df.index == label).fillna(False).to_numpy(bool))
        if len(found) != 1:
            how_many = f"{len(found)} rows have" if len(found) else "no row has"
            raise KeyError(f"{how_many} the label {label!r} in the index")
        return int(found[0])

    def _checked(self, value: Any) -> Any:
        value = plain_label(value)
        if not self.labels:
            return value
        for label in self.labels:  # exactly first: labels may differ in case only
            if type(plain_label(label)) is type(value) and plain_label(label) == value:
                return value
        known = keys_of(self.labels, {})
        if label_key(value) not in known:
            raise ValueError(f"{value!r} is none of the labels {self.labels}")
        return plain_label(known[label_key(value)])

    # -- reading ------------------------------------------------------------------------------

    def decision_at(self, place: int) -> Decision | None:
        """This reviewer's latest decision about the row at a position; None if there is none."""
        return self._decisions.of(self.output).get((self._keys[place], self.reviewer))

    @property
    def rows(self) -> pd.DataFrame:
        """The picked rows in the order they are shown, with the frame's index: the inputs, the
        model's answer (hidden until the row is decided, unless `show_answer`), this reviewer's
        `decision` and `note`."""
        known = self._decisions.of(self.output)
        shown = self._df.iloc[self.places][self._inputs].copy()
        mine = [known.get((self._keys[place], self.reviewer)) for place in self.places]
        said = [plain_label(v) for v in self._df[self.output].iloc[self.places]]
        is_seen = [self.show_answer or (d is not None and d.value is not None) for d in mine]
        hidden = [v if seen else None for v, seen in zip(said, is_seen, strict=True)]
        shown[f"model's {self.output}"] = pd.array(hidden, dtype=object)
        shown["decision"] = pd.array([None if d is None else d.value for d in mine], dtype=object)
        shown["note"] = pd.array([None if d is None else d.note for d in mine], dtype=object)
        return shown

    @property
    def df(self) -> pd.DataFrame:
        """All reviewers' decisions about rows of the frame, one row each, with the frame's index:
        `reviewer`, `decision`, the model's `answer`, `note`, `probability` (of being picked) and
        `at` (UTC)."""
        found = self._by_place()
        return found.set_axis(self._df.index[found.index], axis=0)

    def _by_place(self) -> pd.DataFrame:
        """As `df`, with positions of the frame as the index."""
        of: dict[str, list[int]] = {}
        for place, key in enumerate(self._keys):
            of.setdefault(key, []).append(place)
        found = [
            (place, d)
            for (key, _), d in self._decisions.of(self.output).items()
            if d.value is not None
            for place in of.get(key, ())
        ]
        places = [place for place, _ in found]
        return pd.DataFrame(
            {
                "reviewer": [d.reviewer for _, d in found],
                "decision": [d.value for _, d in found],
                "answer": [plain_label(v) for v in self._df[self.output].iloc[places]],
                "note": [d.note for _, d in found],
                "probability": [d.picked for _, d in found],
                "at": pd.to_datetime([d.at for _, d in found], unit="s", utc=True),
            },
            index=pd.Index(places, dtype=np.intp),
        )

    @property
    def conflicts(self) -> pd.DataFrame:
        """The rows that reviewers decided differently: one column a reviewer."""
        found = self._by_place()
        sides = {str(name): of["decision"] for name, of in found.groupby("reviewer")}
        wide = pd.DataFrame(sides).sort_index()
        differs = [len({str(v) for v in row if not is_missing(v)}) > 1 for row in wide.to_numpy()]
        chosen = wide[np.array(differs, dtype=bool)]
        return chosen.set_axis(self._df.index[chosen.index.to_numpy(np.intp)], axis=0)

    @property
    def agreement(self) -> dict[str, Any]:
        """How far this reviewer and the model, and any two reviewers, agree.

        Returns:
            By pair (`"me, model"`): `rows` that both decided, `agreement` (a share) and Cohen's
            `kappa` (1960), None where it is not defined.
        """
        found = self._by_place()
        sides = {str(name): of["decision"] for name, of in found.groupby("reviewer")}
        sides["model"] = found["answer"][~found.index.duplicated()]
        names = list(sides)
        return {
            f"{a}, {b}": agreement_of(sides[a], sides[b])
            for i, a in enumerate(names)
            for b in names[i + 1 :]
            if len(sides[a].index.intersection(sides[b].index))
        }

    # -- what others make of it ---------------------------------------------------------------

    def labels_at(self) -> tuple[list[Any], list[str | None]]:
        """For each row of the frame what humans decided, and who; None where nobody did, or where
        reviewers differ."""
        by_row: dict[str, list[Decision]] = {}
        for (key, _), decision in self._decisions.of(self.output).items():
            if decision.value is not None:
                by_row.setdefault(key, []).append(decision)
        values: list[Any] = []
        who: list[str | None] = []
        for key in self._keys:
            decisions = by_row.get(key, [])
            is_one = len({str(d.value) for d in decisions}) == 1
            values.append(decisions[-1].value if is_one else None)
            names = " and ".join(sorted({d.reviewer for d in decisions}))
            who.append(names if is_one else "in conflict" if decisions else None)
        return values, who

    @property
    def truth(self) -> pd.Series:
        """What humans decided, with the frame's index; missing where nobody did, or where they
        differ."""
        return pd.Series(self.labels_at()[0], index=self._df.index, dtype=object, name=self.output)

    def sample(self) -> tuple[list[int], list[float] | None]:
        """The picked rows that are decided, by position, and the inverse of each one's probability
        of being picked; None if these are all equal.

        Rows that were decided when they were picked in another way do not count: they came with
        other probabilities. Nor do rows on which reviewers differ.
        """
        values, _ = self.labels_at()
        decided = {d.row for d in self._decisions.of(self.output).values() if d.pick == self.pick}
        kept = [
            (p, 1 / chance)
            for p, chance in zip(self.places, self.probabilities, strict=True)
            if values[p] is not None and self._keys[p] in decided
        ]
        weights = [weight for _, weight in kept]
        is_even = not weights or max(weights) - min(weights) < 1e-9 * max(weights)
        return [place for place, _ in kept], None if is_even else weights

    def demos(self, n: int, outputs: Mapping[str, bool]) -> list[dict[str, Any]]:
        """Worked examples of the decided rows, those first on which the model was wrong.

        Args:
            outputs: the outputs of the module that takes them, and whether each is optional. Other
                outputs are the model's own, which only go with a label that was right: where some
                are required, rows on which the model was wrong make no example.
        """
        values, _ = self.labels_at()
        others = [name for name in outputs if name != self.output]
        needs_more = any(not outputs[name] for name in others)
        wrong, right = [], []
        for place, value in enumerate(values):
            if value is None:
                continue
            row = self._df.iloc[place]
            demo = {self._named.get(name, name): row[name] for name in self._inputs}
            demo[self.output] = value
            if label_key(plain_label(row[self.output])) != label_key(value):
                wrong += [] if needs_more else [demo]
            else:
                right.append(demo | {name: row[name] for name in others if name in row.index})
        if needs_more and (n_wrong := sum(v is not None for v in values) - len(right)):
            required = [name for name in others if not outputs[name]]
            warnings.warn(
                f"{n_wrong} corrected rows make no example: the model's {', '.join(required)} went "
                f"with its wrong {self.output}. Give a module without {', '.join(required)}, or "
                "examples of your own, with_demos([{…}])",
                UserWarning,
                stacklevel=3,
            )
        half = max(n - len(right), -(-n // 2))
        chosen = wrong[:half]
        return [*chosen, *right[: n - len(chosen)]]

    # -- showing ------------------------------------------------------------------------------

    @property
    def progress(self) -> tuple[int, int]:
        """How many of the picked rows this reviewer has decided, and how many there are."""
        known = self._decisions.of(self.output)
        mine = [known.get((self._keys[place], self.reviewer)) for place in self.places]
        return sum(d is not None and d.value is not None for d in mine), len(mine)

    def in_words(self) -> str:
        """`12 of 50 decided; me and the model agree on 83 %`."""
        done, n = self.progress
        words = [f"{done} of {n} decided"]
        for pair, found in self.agreement.items():
            kappa = "" if found["kappa"] is None else f", kappa {found['kappa']:.2f}"
            words.append(f"{pair}: {found['agreement']:.0%} of {found['rows']} alike{kappa}")
        return "; ".join(words)

    def _ipython_display_(self) -> None:
        from ..display import notebook

        if not notebook.has_widgets():
            print(repr(self))
            return
        from ..display.review_panel import ReviewPanel

        ReviewPanel(self).show()

    def _display_(self) -> Any:
        """What marimo shows."""
        from ..display.marimo_review import MarimoReview

        return MarimoReview(self).show()

    def text_at(self, place: int) -> list[tuple[str, str]]:
        """The inputs of the row at a position, as (name, text)."""
        row = self._df.iloc[place]
        return [(name, str(row[name])) for name in self._inputs]

    def answer_at(self, place: int) -> Any:
        """The model's answer for the row at a position."""
        return plain_label(self._df[self.output].iloc[place])

    def __repr__(self) -> str:
        return f"<Review of {self.output!r} by {self.reviewer}: {self.in_words()}>"


def review(df: pd.DataFrame, output: str, **how: Any) -> Review:
    """A sample of rows for a human to decide (see `Review`).

    Args:
        df: a result.
        output: the output to decide.
        how: `n` rows (50); `pick`: `"random"`, `"stratified"` (as many of each label, or of each
            value of the column `by`) or `"uncertain"` (rows of low confidence more often; needs
            `confidence=True`); `reviewer`, a name (the user's); `show_answer`, whether the model's
            answer is seen before the decision.

    Raises:
        ValueError: no such column, samples that were not voted on, or no row with an answer.
    """
    return Review(df, output, **how)
