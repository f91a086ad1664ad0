"""Accuracy: how the teacher's probabilities fit the labels, class by class and together."""

from dataclasses import dataclass

import numpy as np

from pipeline.report.clip_evidence import ClipEvidence
from pipeline.report.suspects import margins
from softlabels.calibration.report import Bin, reliability
from softlabels.classes.class_list import ClassList
from softlabels.evidence.ranking import average_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAccuracy:
    """One labelled class.

    clips: with this label. average_precision: of ranking the clips looked at by the teacher's probability; None without
    a clip that has the class and one that has not. present, absent: mean probability on clips with and without it.
    prefers_another: share of its clips on which the teacher gives a class they are not annotated with more; mostly:
    which class that is most often, "" if none.
    """

    name: str
    clips: int
    average_precision: float | None
    present: float | None
    absent: float | None
    prefers_another: float
    mostly: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """looked: annotated clips looked at for rankings, of `clips`; bins: of the reliability diagram over all classes.

    mean_precision: mean of the classes' average precision; None if none has one.
    """

    clips: int
    looked: int
    bins: tuple[Bin, ...]
    classes: tuple[ClassAccuracy, ...]
    mean_precision: float | None


def measure_accuracy(evidence: ClipEvidence, classes: ClassList) -> Accuracy:
    """Everything that is measured of labelled classes; the most annotated first."""
    hard = evidence.hard()
    margin, _ = margins(evidence)
    measured = [_of_class(c, evidence, hard[:, c], margin, classes) for c in range(len(evidence.labels.classes))]
    precisions = [c.average_precision for c in measured if c.average_precision is not None]
    return Accuracy(
        clips=len(evidence.labels.clips),
        looked=len(evidence.looked),
        bins=reliability(evidence.highest, hard),
        classes=tuple(sorted(measured, key=lambda c: (-c.clips, c.name))),
        mean_precision=float(np.mean(precisions)) if precisions else None,
    )


def _of_class(
    c: int, evidence: ClipEvidence, hard: np.ndarray, margin: np.ndarray, classes: ClassList
) -> ClassAccuracy:
    entries = np.flatnonzero((evidence.entry_class == c) & np.isfinite(margin))
    beaten = evidence.entry_clip[entries[margin[entries] > 0]]
    others, counts = np.unique(evidence.other_class[beaten], return_counts=True)
    highest, present, absent = evidence.highest[:, c], hard == 1, hard == 0
    known = present | absent
    measurable = present.any() and absent.any()
    return ClassAccuracy(
        name=classes[int(evidence.labels.classes[c])],
        clips=int((evidence.entry_class == c).sum()),
        average_precision=average_precision(present[known], highest[known]) if measurable else None,
        present=float(highest[present].mean()) if present.any() else None,
        absent=float(highest[absent].mean()) if absent.any() else None,
        prefers_another=len(beaten) / max(1, len(entries)),
        mostly=classes[int(others[counts.argmax()])] if len(others) else "",
    )
