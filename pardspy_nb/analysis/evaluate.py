"""Measures how good predicted labels are, if the true labels are known."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..core.intervals import wilson
from ..core.labels import label_key, label_text, unknown_labels
from ..display import html, notebook, pictures
from ..tables.by_index import by_index, is_name, refuse_unordered
from ..tables.frame import class_outputs
from ..tables.names import column_of, has_samples, no_column, renamed_in
from .grouping import grouped
from .review import Review

_BINS = 10
_SHARES = ("precision", "recall", "f1")
_TITLES = {
    "accuracy_all": "accuracy, all rows",
    "macro_f1": "macro F1",
    "kappa": "Cohen's kappa",
    "ece": "calibration error",
    "brier": "Brier score",
    "majority": "always the most frequent",
}


class Evaluation(pd.DataFrame):
    """The result of `evaluate`: one figure per row. A notebook shows it as HTML.

    Columns: `metric`, `label` (missing if the figure is of all labels), `value`, `low`, `high`
    (95 %, if the figure has an interval), `n` (the number of rows that the figure is of) and, with
    `by`, `group` (missing if the figure is of all rows).

    Attributes:
        confusion: counts of rows by true label (index) and predicted label (columns).
        correct: for each row with a true label, whether the predicted label is the same; False if
            there is no predicted label.
        calibration: one row per bin of confidence (ten bins of equal width, without empty bins):
            `confidence` (mean), `accuracy`, `n`, `low`, `high` (Wilson, 95 %); None without
            confidence.
    """

    _metadata: ClassVar[list[str]] = ["confusion", "calibration", "correct"]
    confusion: pd.DataFrame
    correct: Any
    calibration: pd.DataFrame | None

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame  # a selection of rows is a plain frame

    def copy(self, deep: bool = True) -> Evaluation:  # type: ignore[misc]  # final in the stubs
        """A copy, attributes included."""
        other = Evaluation(super().copy(deep))
        for name in self._metadata:
            setattr(other, name, copy.copy(getattr(self, name)))
        return other

    def __deepcopy__(self, memo: Any) -> Evaluation:
        return self.copy()

    def figure(self, metric: str, label: Any = None, group: Any = None) -> float:
        """The value of one figure, of all rows or of a group. KeyError if there is no such
        figure."""
        of = self["label"].isna() if label is None else self["label"] == label_text(label)
        if "group" in self:
            of &= self["group"].isna() if group is None else self["group"] == group
        found = self["value"][(self["metric"] == metric) & of]
        if not len(found):
            raise KeyError(f"no figure {metric!r}; there are {list(self['metric'].unique())}")
        return float(found.iloc[0])

    @property
    def accuracy(self) -> float:
        """The share of answered rows whose label is the true one."""
        return self.figure("accuracy")

    @property
    def accuracy_all(self) -> float:
        """The share of all rows with a true label; a row without an answer is wrong."""
        return self.figure("accuracy_all")

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance."""
        return self.figure("kappa")

    def __repr__(self) -> str:
        labels, rest = self._shown_labels()
        crossed = grouped(self.confusion, labels)
        parts = [
            super().__repr__(),
            "",
            "true (rows) and predicted (columns) labels:",
            repr(crossed),
        ]
        return "\n".join([*parts, *filter(None, [rest])])

    def _display_(self) -> Any:
        """What marimo shows, which would show a plain table else."""
        return notebook.as_marimo(self._repr_html_())

    def _repr_html_(self) -> str:
        rows = self[self["group"].isna()] if "group" in self else self
        whole = rows[rows["label"].isna()]
        lacks = self.figure("answered") < self.figure("rows")
        shown = [
            (_TITLES.get(m, m), _shown(m, v, low, high))
            for m, v, low, high in zip(
                whole["metric"], whole["value"], whole["low"], whole["high"], strict=True
            )
            if m != "accuracy_all" or lacks
        ]
        labels, rest = self._shown_labels()
        each = [
            [
                str(label),
                *(_share(self.figure(m, label)) for m in _SHARES),
                f"{self.figure('support', label):,.0f}",
            ]
            for label in labels
        ]
        counts = grouped(self.confusion, labels)
        crossed = [[str(true), *(f"{n:,}" for n in counts.loc[true])] for true in counts.index]
        return html.box(
            [
                html.figures(shown),
                pictures.side_by_side(
                    [
                        html.table(["label", *_SHARES, "rows"], each),
                        html.table(["true \\ predicted", *map(str, counts.columns)], crossed),
                    ]
                ),
                html.faint(rest) if rest else "",
                html.faint(
                    "Of the rows with an answer; intervals of 95 % (Wilson)."
                    + (" Of all rows: one without an answer is wrong." if lacks else "")
                ),
            ],
            html.BLUE,
        )

    def _shown_labels(self) -> tuple[list[str], str]:
        """The labels to show, and words about the others."""
        support = {label: int(n) for label, n in self.confusion.sum(axis=1).items()}
        shown, rest = html.frequent(support)
        return [
            label for label, _ in shown
        ], f"By label: the most frequent, {rest}." if rest else ""


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0%}"


def _shown(metric: str, value: float, low: float, high: float) -> str:
    if metric in ("rows", "answered"):
        return f"{value:,.0f}"
    if metric in ("kappa", "ece", "brier"):
        return f"{value:.3f}"
    return _share(value) if np.isnan(low) else html.share(low, value, high)


def evaluate(
    df: pd.DataFrame,
    truth: str | Sequence[Any] | None = None,
    pred: str | None = None,
    *,
    confidence: str | None = None,
    by: str | None = None,
) -> Evaluation:
    """Compare predicted labels with the true ones. Needs scikit-learn (`pardspy_nb[evaluate]`).

    Rows without a true label do not count, nor do rows that were skipped because they are blank.
    Rows without an answer count in `rows`, and in `accuracy_all` as wrong, but not in `answered`;
    all other figures are of the answered rows. Text is compared without regard to case, and the
    aliases that the run's signature declares are applied.

    Args:
        df: a result, a `vote`, or any frame.
        truth: the column of the true labels, or the labels themselves: a Series goes by its index
            and may have more rows, a list by position; or a `Review`, whose undecided rows do not
            count; None for the `truth` that the run was given.
        pred: the column of the predicted labels; None for the only class output.
        confidence: the column of confidences; None for `<pred>_confidence`, if there is one.
        by: a column; the figures of each of its values come after those of all rows. A group
            without a true label has none.

    Returns:
        An `Evaluation`: `rows`, `answered`, `accuracy` and `accuracy_all` (with intervals),
        `majority` (the accuracy of always saying the most frequent true label), `macro_f1`,
        `kappa`; by label `precision`, `recall`, `f1`, `support`. With a confidence also `ece`, the
        mean distance between confidence and accuracy over ten bins (Guo et al. 2017), and `brier`,
        the mean squared distance between the confidence and 1 (right) or 0 (wrong) (Brier 1950).

    Raises:
        ValueError: no such column, one column for both, no true labels, a Series that lacks rows,
            or labels that have nothing in common.
        ModuleNotFoundError: scikit-learn is not installed.
    """
    if not isinstance(df, pd.DataFrame):
        raise TypeError(f"evaluate takes a DataFrame, not a {type(df).__name__}")
    if has_samples(df):
        warnings.warn(
            "this frame has several samples of each row: they are not rows of their own, so the "
            f"intervals are too narrow; evaluate the votes, df.parallel.vote({pred or '…'!r})",
            UserWarning,
            stacklevel=2,
        )
    pred = _only_output(df) if pred is None else pred
    if by is not None and by not in df.columns:
        raise ValueError(no_column(df, by))
    said, true = _columns(df, truth, pred)
    if by is not None:
        return _by_group(df, true, pred, confidence, by)
    own = {column: name for name, column in renamed_in(df).items()}.get(pred, pred)
    aliases = df.attrs.get("pardspy", {}).get("signature", {}).get("aliases", {}).get(own, {})
    declared = class_outputs(df).get(pred) if "pardspy" in df.attrs else None
    labels, said, true = _aligned(said, true, aliases, declared)
    known = true.notna().to_numpy() & ~_skipped(df)
    both = known & said.notna().to_numpy()
    if not known.any():
        raise ValueError("no row has a true label")
    correct = (said == true).to_numpy(dtype=bool)[known] & both[known]
    said, true = said[both], true[both]
    figures, confusion = _figures(true, said, labels, int(known.sum()))
    name = confidence or f"{pred}_confidence"
    calibration = None
    if name in df.columns:
        sure = pd.to_numeric(df[name]).to_numpy(dtype=float, na_value=np.nan)[both]
        calibration, more = _calibration(sure, (said == true).to_numpy())
        figures += more
    elif confidence is not None:
        raise ValueError(no_column(df, confidence))
    evaluation = Evaluation(figures, columns=["metric", "label", "value", "low", "high", "n"])
    evaluation.confusion, evaluation.calibration = confusion, calibration
    evaluation.correct = correct
    return evaluation


def _by_group(
    df: pd.DataFrame, true: pd.Series, pred: Any, confidence: str | None, by: str
) -> Evaluation:
    """The evaluation of all rows, with the figures of each group after its own."""
    whole = evaluate(df, true.tolist(), pred, confidence=confidence)
    parts = [pd.DataFrame(whole).assign(group=None)]
    values = df[by].astype(object)
    for group in pd.unique(values[values.notna()]):
        is_in = values.eq(group).to_numpy()
        known = true[is_in]
        if known.notna().any():
            of = evaluate(df[is_in], known.tolist(), pred, confidence=confidence)
            parts.append(pd.DataFrame(of).assign(group=group))
    evaluation = Evaluation(pd.concat(parts, ignore_index=True))
    for name in Evaluation._metadata:
        setattr(evaluation, name, getattr(whole, name))
    return evaluation


def _skipped(df: pd.DataFrame) -> Any:
    """Rows that were not asked because they are blank."""
    is_result = "pardspy" in df.attrs and column_of(df, "status") in df.columns
    return (
        (df[column_of(df, "status")] == "skipped").to_numpy()
        if is_result
        else np.zeros(len(df), bool)
    )


def _only_output(df: pd.DataFrame) -> Any:
    classes = list(class_outputs(df)) if "pardspy" in df.attrs else []
    if len(classes) != 1:
        raise ValueError(f"pass pred=, the column of predicted labels, one of {list(df.columns)}")
    return classes[0]


def _columns(df: pd.DataFrame, truth: Any, pred: Any) -> tuple[pd.Series, pd.Series]:
    if truth is None:
        truth = df.attrs.get("pardspy", {}).get("options", {}).get("truth")
        own = {column: name for name, column in renamed_in(df).items()}
        truth = truth.get(own.get(pred, pred)) if isinstance(truth, dict) else truth
        if truth is None:
            raise ValueError("pass truth=, the column of the true labels or the labels themselves")
    if isinstance(truth, Review):
        truth = truth.on(df).truth
    refuse_unordered(truth, "truth")
    for name in [pred, *([truth] if is_name(truth) else [])]:
        if name not in df.columns:
            raise ValueError(no_column(df, name))
    if is_name(truth) and truth == pred:
        ours = renamed_in(df).get(pred)
        hint = f"; the run's own answers are in {ours!r}" if ours else ""
        raise ValueError(f"truth and pred are the same column {pred!r}{hint}")
    given = df[truth] if is_name(truth) else by_index(truth, df.index, "truth")
    true = pd.Series(list(given), dtype=object)
    if len(true) != len(df):
        raise ValueError(f"truth has {len(true)} labels, and the frame {len(df)} rows")
    return df[pred].reset_index(drop=True), true.reset_index(drop=True)


def _aligned(
    said: pd.Series, true: pd.Series, aliases: Mapping[str, str], declared: Sequence[Any] | None
) -> tuple[list[str], pd.Series, pd.Series]:
    """The labels in order, and both columns as text in the same spelling."""
    if declared is None and isinstance(said.dtype, pd.CategoricalDtype):
        declared = list(said.cat.categories)
    given = declared or sorted(said.dropna().unique(), key=label_key)
    names: dict[str, str] = {}
    for value in given:
        names.setdefault(label_key(value), label_text(value))
    known = len(names)
    for alias, label in aliases.items():
        names.setdefault(label_key(alias), label_text(label))
    found = true.dropna().map(label_key)
    rest = sorted(set(found) - names.keys())
    if known and len(found) and not set(found) & names.keys():
        raise ValueError(
            f"the true labels {rest[:5]} and the predicted ones {list(names.values())[:5]} have "
            "none in common; translate the true labels: truth=df['…'].map({…: …})"
        )
    if declared and (unknown := [v for v in true.dropna() if label_key(v) not in names]):
        warnings.warn(unknown_labels(unknown, declared), UserWarning, stacklevel=3)
    for value in [*said.dropna(), *true.dropna()]:
        names.setdefault(label_key(value), label_text(value))
    said, true = (
        column.astype(object).map(lambda v: names[label_key(v)], na_action="ignore")
        for column in (said, true)
    )
    return list(dict.fromkeys(names.values())), said, true


def _figures(
    true: pd.Series, said: pd.Series, labels: list[str], rows: int
) -> tuple[list[tuple[Any, ...]], pd.DataFrame]:
    from sklearn.metrics import (
        cohen_kappa_score,
        confusion_matrix,
        precision_recall_fscore_support,
    )

    n, right, nan = len(true), int((true == said).sum()), np.nan
    if not n:
        whole = [(m, None, nan, nan, nan, 0) for m in ("accuracy", "majority", "macro_f1", "kappa")]
        counts = [("rows", None, rows, nan, nan, rows), ("answered", None, 0, nan, nan, rows)]
        high = wilson(0, rows).high
        return [*counts, ("accuracy_all", None, 0.0, 0.0, high, rows), *whole], pd.DataFrame(
            0, pd.Index([], name="true"), pd.Index([])
        )
    share, of_all = wilson(right, n), wilson(right, rows)
    each = precision_recall_fscore_support(true, said, labels=labels, zero_division=np.nan)
    # a label that no row has is not part of the average
    present = [i for i, s in enumerate(each[3]) if s]
    f1 = precision_recall_fscore_support(true, said, labels=labels, zero_division=0.0)[2]
    kappa = 1.0 if len({*true, *said}) == 1 else float(cohen_kappa_score(true, said))
    figures: list[tuple[Any, ...]] = [
        ("rows", None, rows, nan, nan, rows),
        ("answered", None, n, nan, nan, rows),
        ("accuracy", None, share.expected, share.low, share.high, n),
        ("accuracy_all", None, of_all.expected, of_all.low, of_all.high, rows),
        ("majority", None, true.value_counts().iloc[0] / n, nan, nan, n),
        ("macro_f1", None, float(np.mean(f1[present])), nan, nan, n),
        ("kappa", None, kappa, nan, nan, n),
    ]
    for i, label in enumerate(labels):
        for name, values in zip((*_SHARES, "support"), each, strict=True):
            figures.append((name, label, float(values[i]), nan, nan, int(each[3][i])))
    crossed = confusion_matrix(true, said, labels=labels)
    confusion = pd.DataFrame(crossed, pd.Index(labels, name="true"), pd.Index(labels, name="said"))
    return figures, confusion


def _calibration(sure: Any, right: Any) -> tuple[pd.DataFrame | None, list[tuple[Any, ...]]]:
    is_valid = (sure >= 0) & (sure <= 1)
    sure, right = sure[is_valid], right[is_valid]
    n = len(sure)
    if not n:
        return None, []
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    rows = []
    for number in range(_BINS):
        in_bin = place == number
        if in_bin.any():
            n_bin = int(in_bin.sum())
            share = wilson(int(right[in_bin].sum()), n_bin)
            rows.append((float(sure[in_bin].mean()), share.expected, n_bin, share.low, share.high))
    bins = pd.DataFrame(rows, columns=["confidence", "accuracy", "n", "low", "high"])
    ece = float((bins["n"] / n * (bins["confidence"] - bins["accuracy"]).abs()).sum())
    brier = float(np.mean((sure - right) ** 2))
    named = (("ece", ece), ("brier", brier))
    return bins, [(name, None, value, np.nan, np.nan, n) for name, value in named]
