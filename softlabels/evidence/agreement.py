"""How far teacher and labels agree: on how many rows, and with what probability of each class."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far teacher and labels agree, on the rows with at least one annotated class that the teacher knows.

    rows: how many. top1: the share whose highest teacher class is annotated; of classes that tie, their share counts;
    NaN without rows.
    annotated: (classes,) int64, rows that are annotated with the class and known to the teacher.
    mean_present, mean_absent: (classes,) float64, the teacher's mean probability on rows annotated as 1, as 0; NaN
    where there are none.
    """

    rows: int
    top1: float
    annotated: np.ndarray
    mean_present: np.ndarray
    mean_absent: np.ndarray


def teacher_label_agreement(soft: np.ndarray, hard: np.ndarray) -> Agreement:
    """Hold teacher and labels against each other, block by block, all rows.

    Args:
      soft: (rows, classes) float32 teacher probabilities; NaN where unknown.
      hard: (rows, classes) float32: 1 annotated, 0 annotated as absent, NaN unknown.
    """
    check_halves(soft, hard, None)
    rows, agreed = 0, 0.0
    sums, counts = np.zeros((2, soft.shape[1])), np.zeros((2, soft.shape[1]), np.int64)  # of absent, of present
    for block in row_blocks(len(soft), soft.shape[1]):
        p, label = np.asarray(soft[block]), np.asarray(hard[block])
        known = ~np.isnan(p)
        for value in (0, 1):
            here = known & (label == value)
            counts[value] += here.sum(axis=0)
            sums[value] += np.where(here, p, 0).sum(axis=0, dtype=np.float64)
        present = known & (label == 1)
        top = known & (p == np.where(known, p, -1).max(axis=1, keepdims=True, initial=-1))
        asked = present.any(axis=1)
        rows += int(asked.sum())
        agreed += ((top & present).sum(axis=1)[asked] / top.sum(axis=1)[asked]).sum()
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    top1 = float(agreed / rows) if rows else np.nan
    return Agreement(rows=rows, top1=top1, annotated=counts[1], mean_present=means[1], mean_absent=means[0])


def check_halves(soft: np.ndarray, hard: np.ndarray, groups: np.ndarray | None) -> None:
    if soft.ndim != 2 or soft.shape != hard.shape:
        raise ValueError(f"soft and hard: expected two equal shapes (rows, classes), got {soft.shape} and {hard.shape}")
    if groups is not None and np.shape(groups) != soft.shape[:1]:
        raise ValueError(f"groups: expected one number a row, shape {soft.shape[:1]}, got {np.shape(groups)}")


def row_blocks(rows: int, classes: int, values: int = 1 << 20) -> Iterator[slice]:
    """Slices of rows, of about so many values each."""
    step = max(1, values // max(classes, 1))
    return (slice(first, first + step) for first in range(0, rows, step))


def one_of_each_stretch(values: np.ndarray, most: int) -> np.ndarray:
    """All of the values, or so many: one drawn from each of `most` equal stretches, the same ones every time.

    Not every n-th: where classes or windows come in turn, a fixed step would keep time with them and never see some.
    """
    if len(values) <= most:
        return values
    places = (np.arange(most) + np.random.default_rng(0).random(most)) * (len(values) / most)
    return values[places.astype(np.int64)]
