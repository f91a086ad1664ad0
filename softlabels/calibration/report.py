"""CalibrationReport: how well probabilities fit before and after, out of fold; prints as a table, saves as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from softlabels.evidence.ranking import average_precision, operating_point
from softlabels.storage.unfinished import write_text

BINS = 10  # of equal width, from 0 to 1
_SHOWN = 20  # classes in print


class Report:
    """What reports have in common: a dataclass that is saved as JSON."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]  # every report is a dataclass

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        write_text(path, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")


def class_table(head: str, lines: Sequence[str]) -> list[str]:
    """The first lines of a table under their head, and how many more there are; nothing of nothing."""
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [head, *lines[:_SHOWN], *more] if lines else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How probabilities fit annotations; the first three are better when smaller, the last when larger.

    log_loss: nats; of a class's annotations on average, or of a row where classes exclude each other. brier: mean
    squared error. calibration_error: expected, over ten bins of equal width: mean |mean probability - share present|.
    average_precision: mean over the classes with a positive and a negative; None without such a class.
    """

    log_loss: float
    brier: float
    calibration_error: float
    average_precision: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bin of a reliability diagram: how many annotations, their mean probability and the share that is present.

    count: a number of annotations, unless each counts as often as there are such clips.
    """

    count: float
    said: float
    present: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCalibration:
    """One class: annotations, fit, and the bins that hold any, before and after.

    threshold: the operating point, a probability above which precision and recall are equal; precision: what they are.
    """

    name: str
    positives: int
    negatives: int
    before: Fit
    after: Fit
    reliability_before: tuple[Bin, ...]
    reliability_after: tuple[Bin, ...]
    threshold: float = 0.5
    precision: float = 0.0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ClassCalibration":
        fits = {name: Fit(**values[name]) for name in ("before", "after")}
        bins = {name: tuple(Bin(**b) for b in values[name]) for name in ("reliability_before", "reliability_after")}
        return cls(**{**values, **fits, **bins})


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport(Report):
    """What a calibration was fitted on and what it changed.

    asked, used: "adapted", "platt, per class", "platt, shared" or "none". examples: annotated clips of one window, and
    windows of clips annotated in time. groups: the recordings, or the folds of the manifest, dealt out to `folds`
    folds. positives, negatives: of one class each. before, after: over all classes, on examples that the fit had not
    seen; None without a measurement. candidates: the same of each way that was tried. per_class: the classes with a
    positive and a negative. note: why not as asked. warnings: what a person should know.
    """

    asked: str
    used: str = "none"
    examples: int
    clips: int
    recordings: int
    groups: int = 0
    folds: int = 0
    positives: int
    negatives: int
    before: Fit | None = None
    after: Fit | None = None
    candidates: dict[str, Fit] = field(default_factory=dict)
    per_class: tuple[ClassCalibration, ...] = ()
    note: str = ""
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CalibrationReport":
        """What `to_json` made, back from JSON."""
        fits = {name: values[name] and Fit(**values[name]) for name in ("before", "after")}
        per_class = tuple(ClassCalibration.from_json(entry) for entry in values["per_class"])
        candidates = {name: Fit(**fit) for name, fit in values.get("candidates", {}).items()}
        further = {"per_class": per_class, "candidates": candidates, "warnings": tuple(values.get("warnings", ()))}
        return cls(**{**values, **fits, **further})

    def __str__(self) -> str:
        lines = [
            f"{'calibration':<22}{self.used}  (asked: {self.asked})",
            f"{'annotated':<22}{self.examples:,} examples of {self.clips:,} clips, {self.recordings:,} recordings; "
            f"{self.positives:,} positives, {self.negatives:,} negatives",
            *self._fit_lines(),
            *self._class_lines(),
            *([f"note: {self.note}"] if self.note else []),
            *(f"note: {warning}" for warning in self.warnings),
        ]
        return "\n".join(lines)

    def _fit_lines(self) -> list[str]:
        """A line for each way that was tried; the one in use is marked."""
        head = f"{f'{self.folds} folds, held out':<36}{'log-loss':>9}{'Brier':>9}{'cal.err.':>9}{'av.prec.':>9}"
        lines = [
            f"{('> ' if name == self.used else '  ') + name:<36}{fit.log_loss:>9.4f}{fit.brier:>9.4f}"
            f"{fit.calibration_error:>9.4f}{_number(fit.average_precision)}"
            for name, fit in self.candidates.items()
        ]
        return [head, *lines] if lines else []

    def _class_lines(self) -> list[str]:
        """The classes with the most positives: how each fits, and its operating point."""
        lines = [
            f"{c.name[:35]:<36}{c.positives:>9,}{c.before.log_loss:>9.4f}{c.after.log_loss:>9.4f}"
            f"{_number(c.before.average_precision)}{_number(c.after.average_precision)}{c.threshold:>9.3g}"
            f"{c.precision:>9.2f}"
            for c in sorted(self.per_class, key=lambda c: (-c.positives, c.name))
        ]
        head = ("positives", "log-loss", "after", "av.prec.", "after", "threshold", "prec=rec")
        return class_table(f"{'class':<36}" + "".join(f"{name:>9}" for name in head), lines)


def _number(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:>9.4f}"


def fit_of(
    losses: np.ndarray,
    probabilities: np.ndarray,
    hard: np.ndarray,
    *,
    per_row: bool = False,
    weights: np.ndarray | None = None,
) -> Fit:
    """The figures of some annotations.

    Args:
      losses, probabilities, hard: (n, classes) or (n,); NaN in `hard` where unknown.
      per_row: classes exclude each other, so the log-loss is a row's.
      weights: alike, how often each annotation counts in all but the average precision; None is once.
    """
    known = ~np.isnan(hard)
    weights = np.ones(hard.shape) if weights is None else weights
    total = max(float(weights[known].sum()), 1e-300)
    count = max(1, len(hard)) if per_row else total
    bins = reliability(probabilities, hard, weights)
    columns = (each.reshape(len(hard), -1).T for each in (probabilities, hard))
    precisions = [average_precision(h[k] == 1, p[k]) for p, h in zip(*columns, strict=True) if _both(h, k := h == h)]
    return Fit(
        log_loss=float((losses * weights)[known].sum() / count),
        brier=float((weights * (probabilities - hard) ** 2)[known].sum() / total),
        calibration_error=float(sum(b.count * abs(b.said - b.present) for b in bins) / total),
        average_precision=float(np.mean(precisions)) if precisions else None,
    )


def _both(hard: np.ndarray, known: np.ndarray) -> bool:
    """Whether a class has a positive and a negative."""
    return bool((hard == 1).any() and (hard[known] != 1).any())


def reliability(probabilities: np.ndarray, hard: np.ndarray, weights: np.ndarray | None = None) -> tuple[Bin, ...]:
    """The bins that hold anything, lowest first; arrays as in `fit_of`."""
    known = ~np.isnan(hard)
    p, hard = probabilities[known].astype(np.float64), hard[known].astype(np.float64)
    weight = np.ones(len(p)) if weights is None else weights[known]
    which = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    counts, sums, present = (np.bincount(which, each * weight, BINS) for each in (np.ones(len(p)), p, hard))
    return tuple(
        Bin(count=int(n) if weights is None else float(n), said=float(sums[i] / n), present=float(present[i] / n))
        for i, n in enumerate(counts)
        if n
    )


def class_calibrations(
    names: Sequence[str],
    hard: np.ndarray,
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray | None = None,
) -> tuple[ClassCalibration, ...]:
    """The classes with a positive and a negative; before, after: losses and probabilities, (n, classes) each."""
    positives, negatives = (hard == 1).sum(axis=0), (hard == 0).sum(axis=0)
    classes = []
    for c in np.flatnonzero((positives > 0) & (negatives > 0)):
        weight = None if weights is None else weights[:, c]
        known = ~np.isnan(hard[:, c])
        threshold, precision = operating_point(hard[known, c] == 1, after[1][known, c])
        classes.append(
            ClassCalibration(
                name=names[int(c)],
                positives=int(positives[c]),
                negatives=int(negatives[c]),
                before=fit_of(before[0][:, c], before[1][:, c], hard[:, c], weights=weight),
                after=fit_of(after[0][:, c], after[1][:, c], hard[:, c], weights=weight),
                reliability_before=reliability(before[1][:, c], hard[:, c], weight),
                reliability_after=reliability(after[1][:, c], hard[:, c], weight),
                threshold=threshold,
                precision=precision,
            )
        )
    return tuple(classes)
