"""CalibrationReport: how well probabilities fitted before and after, out of fold; prints as a table, saves as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BINS = 10  # of equal width, from 0 to 1
_SHOWN = 20  # classes in print


class Report:
    """What reports have in common: a dataclass that is saved as JSON."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]  # every report is a dataclass

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def class_table(head: str, lines: Sequence[str]) -> list[str]:
    """The first lines of a table under their head, and how many more there are; nothing of nothing."""
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [head, *lines[:_SHOWN], *more] if lines else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How probabilities fit annotations; each is better when smaller.

    log_loss: nats; of a class's annotations on average, or of a row where classes exclude each other. brier: mean
    squared error. calibration_error: expected, over ten bins of equal width: mean |mean probability - share present|.
    """

    log_loss: float
    brier: float
    calibration_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bin of a reliability diagram: how many annotations, their mean probability and the share that is present."""

    count: int
    said: float
    present: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCalibration:
    """One class: annotations, fit, and the bins that hold any, before and after."""

    name: str
    positives: int
    negatives: int
    before: Fit
    after: Fit
    reliability_before: tuple[Bin, ...]
    reliability_after: tuple[Bin, ...]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ClassCalibration":
        fits = {name: Fit(**values[name]) for name in ("before", "after")}
        bins = {name: tuple(Bin(**b) for b in values[name]) for name in ("reliability_before", "reliability_after")}
        return cls(**{**values, **fits, **bins})


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport(Report):
    """What a calibration was fitted on and what it changed.

    asked, used: "platt, per class", "platt, shared" or "none". examples: annotated clips, and windows of clips
    annotated in time. recordings: or folds of the manifest, dealt out to `folds` folds. positives, negatives: of one
    class each. before, after: over all classes, on examples that the fit had not seen; None without a measurement.
    per_class: the classes with a positive and a negative. note: why not as asked.
    """

    asked: str
    used: str = "none"
    examples: int
    clips: int
    recordings: int
    folds: int = 0
    positives: int
    negatives: int
    before: Fit | None = None
    after: Fit | None = None
    per_class: tuple[ClassCalibration, ...] = ()
    note: str = ""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CalibrationReport":
        """What `to_json` made, back from JSON."""
        fits = {name: values[name] and Fit(**values[name]) for name in ("before", "after")}
        per_class = tuple(ClassCalibration.from_json(entry) for entry in values["per_class"])
        return cls(**{**values, **fits, "per_class": per_class})

    def __str__(self) -> str:
        lines = [
            f"{'calibration':<22}{self.used}  (asked: {self.asked})",
            f"{'annotated':<22}{self.examples:,} examples of {self.clips:,} clips, {self.recordings:,} recordings; "
            f"{self.positives:,} positives, {self.negatives:,} negatives",
            *self._fit_lines(),
            *self._class_lines(),
            *([f"note: {self.note}"] if self.note else []),
        ]
        return "\n".join(lines)

    def _fit_lines(self) -> list[str]:
        if self.before is None or self.after is None:
            return []
        names = {"log_loss": "log-loss", "brier": "Brier score", "calibration_error": "calibration error"}
        return [f"{f'{self.folds} folds, held out':<45}{'before':>9}{'after':>9}"] + [
            f"{text:<45}{getattr(self.before, name):>9.4f}{getattr(self.after, name):>9.4f}"
            for name, text in names.items()
        ]

    def _class_lines(self) -> list[str]:
        """The classes with the most positives, and how each fits."""
        lines = [
            f"{c.name[:35]:<36}{c.positives:>9,}{c.before.log_loss:>9.4f}{c.after.log_loss:>9.4f}"
            f"{c.before.calibration_error:>9.4f}{c.after.calibration_error:>9.4f}"
            for c in sorted(self.per_class, key=lambda c: (-c.positives, c.name))
        ]
        return class_table(
            f"{'class':<36}{'positives':>9}{'log-loss':>9}{'after':>9}{'cal.err.':>9}{'after':>9}", lines
        )


def fit_of(losses: np.ndarray, probabilities: np.ndarray, hard: np.ndarray, *, per_row: bool = False) -> Fit:
    """The figures of some annotations.

    Args:
      losses, probabilities, hard: (n, classes) or (n,); NaN in `hard` where unknown.
      per_row: classes exclude each other, so the log-loss is a row's.
    """
    known = ~np.isnan(hard)
    count = max(1, int(known.sum()))
    bins = reliability(probabilities, hard)
    return Fit(
        log_loss=float(losses[known].sum() / (max(1, len(hard)) if per_row else count)),
        brier=float(((probabilities[known] - hard[known]) ** 2).sum() / count),
        calibration_error=float(sum(b.count * abs(b.said - b.present) for b in bins) / count),
    )


def reliability(probabilities: np.ndarray, hard: np.ndarray) -> tuple[Bin, ...]:
    """The bins that hold anything, lowest first; arrays as in `fit_of`."""
    known = ~np.isnan(hard)
    p, hard = probabilities[known].astype(np.float64), hard[known].astype(np.float64)
    which = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    counts, sums, present = (np.bincount(which, weights, BINS) for weights in (None, p, hard))
    return tuple(
        Bin(count=int(n), said=float(sums[i] / n), present=float(present[i] / n)) for i, n in enumerate(counts) if n
    )


def class_calibrations(
    names: Sequence[str],
    hard: np.ndarray,
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
) -> tuple[ClassCalibration, ...]:
    """The classes with a positive and a negative; before, after: losses and probabilities, (n, classes) each."""
    positives, negatives = (hard == 1).sum(axis=0), (hard == 0).sum(axis=0)
    return tuple(
        ClassCalibration(
            name=names[int(c)],
            positives=int(positives[c]),
            negatives=int(negatives[c]),
            before=fit_of(before[0][:, c], before[1][:, c], hard[:, c]),
            after=fit_of(after[0][:, c], after[1][:, c], hard[:, c]),
            reliability_before=reliability(before[1][:, c], hard[:, c]),
            reliability_after=reliability(after[1][:, c], hard[:, c]),
        )
        for c in np.flatnonzero((positives > 0) & (negatives > 0))
    )
