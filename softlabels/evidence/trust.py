"""How far is the teacher to be believed? One number a class from annotated clips, and warnings before it does harm."""

import logging

import numpy as np

from softlabels.evidence.agreement import teacher_label_agreement
from softlabels.evidence.examples import TAUGHT, Annotated
from softlabels.evidence.ranking import average_precision

MIN_POSITIVES = 10  # fewer, of all classes together, say nothing of a teacher
_PRIOR = 5  # positives that the mean over classes counts for
LOW_AGREEMENT, LOW_PROBABILITY = 0.5, 0.2  # below, raw soft labels taught less than none in our trials
logger = logging.getLogger(__name__)


def class_trust(annotated: Annotated, classes: int) -> np.ndarray | None:
    """Trust from how the teacher ranks the annotated clips of each class.

    Returns: (classes,) float64 in [0, 1]; None where fewer than ten positives say anything.
    """
    positives, negatives = annotated.positives, annotated.negatives
    measured = (positives > 0) & (negatives > 0)
    if positives[measured].sum() < MIN_POSITIVES:
        logger.warning(
            "trust: expected %d annotated positives or more, got %d: the teacher stays trusted as before",
            MIN_POSITIVES,
            positives[measured].sum(),
        )
        return None
    skill = np.zeros(len(positives))
    for c in np.flatnonzero(measured):
        known = ~np.isnan(annotated.hard[:, c])
        prevalence = positives[c] / (positives[c] + negatives[c])
        precision = average_precision(annotated.hard[known, c] == 1, annotated.soft[known, c])
        skill[c] = np.clip((precision - prevalence) / (1 - prevalence), 0, 1)
    weight = np.where(measured, np.minimum(positives, negatives), 0)
    mean = np.average(skill, weights=weight)
    trust = np.full(classes, mean)
    trust[annotated.columns] = (weight * skill + _PRIOR * mean) / (weight + _PRIOR)
    return trust


def harm_notes(annotated: Annotated, splits: dict[str, int]) -> list[str]:
    """Warnings for the report of a join: soft labels that are likely to harm, with the figures that say so.

    Args:
      annotated: the examples of the join, as the teacher has scored them.
      splits: split -> its rows.
    """
    notes = []
    if TAUGHT in splits:
        notes.append(
            f"{splits[TAUGHT]:,} rows have split {TAUGHT!r}: the teacher was trained on them, so its labels there are "
            "better than elsewhere; calibrate() and trust() leave them out, and so may you (split=...)"
        )
    agreement = teacher_label_agreement(annotated.soft, annotated.hard)
    entries = agreement.annotated.sum()
    if entries < MIN_POSITIVES:
        return notes
    probability = np.nansum(agreement.mean_present * agreement.annotated) / entries
    if agreement.top1 < LOW_AGREEMENT or probability < LOW_PROBABILITY:
        notes.append(
            f"soft labels as they are may harm: on {agreement.rows:,} annotated clips the teacher's top class is right "
            f"in {agreement.top1:.0%}, and its mean probability of the annotated classes is {probability:.2g}; try "
            "labels.calibrate() or exclusive(), then trust(), and compare with hard labels only"
        )
    return notes
