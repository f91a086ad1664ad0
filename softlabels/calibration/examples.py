"""Annotated examples: with labels of both people and teacher, one example a clip, grouped by recording.

Calibration and trust are measured on these. A weak label does not say which window, so a clip of several windows
counts with its maxima (in a distribution: with the window in which the teacher is surest of a class other than the
rest). A clip whose windows are labelled differently was annotated in time: its windows count one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from softlabels.calibration.agreement import evenly_spaced
from softlabels.classes.class_list import REST, Activation, ClassList

MAX_VALUES, MAX_CLIPS = 1 << 24, 50_000  # of more annotated clips an evenly spaced part is looked at
TAUGHT = "teacher"  # the split of clips that the teacher was trained on
_BLOCK = 1 << 22  # values read at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotated:
    """Examples with a hard and a soft label, (n, classes) float32 each; both NaN where either is unknown.

    group: (n,) int64, the recording or, where the manifest names them, the fold of each. clips: how many there are.
    """

    hard: np.ndarray
    soft: np.ndarray
    group: np.ndarray
    clips: int

    def __len__(self) -> int:
        return len(self.hard)

    @property
    def positives(self) -> np.ndarray:
        """(classes,) int64 examples with the class."""
        return (self.hard == 1).sum(axis=0)

    @property
    def negatives(self) -> np.ndarray:
        """(classes,) int64 examples annotated as without the class."""
        return (self.hard == 0).sum(axis=0)

    @property
    def groups(self) -> int:
        return len(np.unique(self.group))

    def folds(self, folds: int) -> np.ndarray:
        """(n,) int64: deals the groups out so that each fold has its share of every class's positives; no chance in it.

        Groups with rare classes are dealt first, each to the fold that has least of what it brings, then to the one
        with the fewest examples.
        """
        _, group = np.unique(self.group, return_inverse=True)
        groups = group.max(initial=-1) + 1
        brings = np.zeros((groups, self.hard.shape[1]))
        np.add.at(brings, group, self.hard == 1)
        brings /= np.maximum(brings.sum(axis=0), 1)  # share of all positives of the class
        sizes = np.bincount(group, minlength=groups)
        has, counts = np.zeros((folds, brings.shape[1])), np.zeros(folds)
        fold_of = np.empty(groups, np.int64)
        for g in np.lexsort((-sizes, -brings.max(axis=1, initial=0))):
            chosen = np.lexsort((counts, has @ brings[g]))[0]
            fold_of[g] = chosen
            has[chosen] += brings[g]
            counts[chosen] += sizes[g]
        return fold_of[group]


def annotated_examples(
    clip: np.ndarray,
    annotated: np.ndarray,
    y_true: Callable[[np.ndarray], np.ndarray],
    classes: ClassList,
    activation: Activation,
    *,
    group_of: Callable[[np.ndarray], np.ndarray],
    max_values: int = MAX_VALUES,
) -> Annotated:
    """The annotated rows as examples, those of a clip together.

    Args:
      clip: (rows,) int, the clip of each row, ascending; annotated: (rows,) bool, the rows that count.
      y_true: rows -> (n, 2 * classes) float32 `[hard | soft]`, as they are to be looked at.
      group_of: (n,) clips -> (n,) int64, the recording (or fold) of each.
      max_values: of a half; of more clips an evenly spaced part is taken.
    """
    most = min(MAX_CLIPS, max(1, max_values // len(classes)))
    clips = evenly_spaced(np.unique(clip[annotated]), most)
    rows = np.flatnonzero(annotated & np.isin(clip, clips))
    nothing = np.zeros((0, len(classes)), np.float32)
    parts = [(nothing, nothing, clips[:0])]
    for block in _clip_slices(clip[rows], max(1, _BLOCK // len(classes))):
        parts.append(_examples(clip[rows[block]], y_true(rows[block]), classes, activation))
    hard, soft, of_clip = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Annotated(hard=hard, soft=soft, group=group_of(of_clip), clips=len(np.unique(of_clip)))


def _clip_slices(clip: np.ndarray, rows: int) -> list[slice]:
    """Slices of about so many rows each that cut no clip; clip: (rows,) ascending."""
    ends = np.searchsorted(clip, clip[rows - 1 :: rows], side="right")
    edges = np.unique([0, *ends, len(clip)])
    return [slice(first, end) for first, end in pairwise(edges)]


def _examples(
    clip: np.ndarray, y_true: np.ndarray, classes: ClassList, activation: Activation
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All rows of some clips -> hard, soft and clip of their examples."""
    hard, soft = np.split(y_true, 2, axis=1)
    both = ~np.isnan(hard) & ~np.isnan(soft)
    if activation == "softmax":
        complete = (both == ~np.isnan(soft)).all(axis=1) & (both.sum(axis=1) >= 2)
        both &= (complete & (hard.sum(axis=1, where=both) > 0) & (soft.sum(axis=1, where=both) > 0))[:, None]
    some = both.any(axis=1)
    clip, hard, soft = clip[some], np.where(both, hard, -1)[some], np.where(both, soft, -1)[some]  # -1 is unknown
    starts = np.flatnonzero(np.diff(clip, prepend=-1))
    if not len(starts):
        return hard, soft, clip
    differs = np.logical_or.reduceat(hard == 1, starts) & np.logical_or.reduceat(hard == 0, starts)
    kept = np.repeat(differs.any(axis=1), np.diff(starts, append=len(clip)))  # (rows,) annotated in time
    if activation == "softmax":
        rest = len(classes) - 1 if classes.names[-1] == REST else len(classes)
        kept[np.lexsort((-soft[:, :rest].max(axis=1), clip))[starts]] = True  # by clip, the surest window first
    else:
        for half in (hard, soft):
            half[starts] = np.where(kept[starts, None], half[starts], np.maximum.reduceat(half, starts))
        kept[starts] = True
    known = hard[kept] >= 0
    return np.where(known, hard[kept], np.nan), np.where(known, soft[kept], np.nan), clip[kept]
