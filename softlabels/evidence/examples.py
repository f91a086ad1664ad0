"""Annotated examples: with labels of both people and teacher, grouped by recording.

A clip of one window is one example; of a clip that was annotated in time each window is one. Any other clip of several
windows is labelled weakly: nobody knows in which of them. It counts with its maxima (in a distribution: with the window
in which the teacher is surest of a class other than the rest), which say how the teacher ranks clips, but not what a
probability of one window is worth: such an example is `weak`, and `of_windows` leaves it out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from softlabels.classes.class_list import REST, Activation, ClassList
from softlabels.evidence.agreement import one_of_each_stretch

MAX_VALUES, MAX_CLIPS = 1 << 24, 50_000  # of more annotated clips a part is looked at
TAUGHT = "teacher"  # the split of clips that the teacher was trained on
_BLOCK = 1 << 22  # values read at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotated:
    """Examples with a hard and a soft label, (n, columns) float32 each; both NaN where either is unknown, but for
    classes that the teacher lacks, if they were asked for: there only the soft one is.

    columns: (columns,) int64 positions in the class list; of a long list only classes with a positive are looked at.
    row: (n,) int64 of the join. several: (n,) bool, of a clip of several windows; weak: (n,) bool, the maxima of such a
    clip. recording: (n,) int64; group: (n,) int64, what is held out together: the manifest's fold, or the recording.
    clips: how many there are, of `all_clips` annotated ones.
    """

    hard: np.ndarray
    soft: np.ndarray
    columns: np.ndarray
    row: np.ndarray
    several: np.ndarray
    weak: np.ndarray
    recording: np.ndarray
    group: np.ndarray
    clips: int
    all_clips: int

    def __len__(self) -> int:
        return len(self.hard)

    @property
    def positives(self) -> np.ndarray:
        """(columns,) int64 examples with the class."""
        return (self.hard == 1).sum(axis=0)

    @property
    def negatives(self) -> np.ndarray:
        """(columns,) int64 examples annotated as without the class."""
        return (self.hard == 0).sum(axis=0)

    @property
    def prevalence(self) -> np.ndarray:
        """(columns,) float64: the share of the examples that anybody looked for the class in."""
        return self.positives / np.maximum(self.positives + self.negatives, 1)

    @property
    def groups(self) -> int:
        return len(np.unique(self.group))

    def part(self, keep: np.ndarray) -> "Annotated":
        """Some of the examples; keep: (n,) bool or (m,) int."""
        per_example = ("hard", "soft", "row", "several", "weak", "recording", "group")
        return dataclasses.replace(self, **{name: getattr(self, name)[keep] for name in per_example})

    def of_columns(self, keep: np.ndarray) -> "Annotated":
        """Some of the classes; keep: (columns,) bool."""
        parts = {"hard": self.hard[:, keep], "soft": self.soft[:, keep], "columns": self.columns[keep]}
        return dataclasses.replace(self, **parts)

    def of_windows(self) -> "Annotated":
        """The examples whose label is known to hold in the window itself."""
        return self.part(~self.weak)

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unannotated:
    """What the teacher gave windows that nobody annotated: (n, columns) float32 soft.

    row: (n,) int64 of the join; recording: (n,) int64; weak: (n,) bool, of clips of several windows.
    """

    soft: np.ndarray
    row: np.ndarray
    recording: np.ndarray
    weak: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnotatedRows:
    """Where examples are found: the annotated rows of a join.

    row: (rows,) int64 ascending, the annotated ones; clip: (rows,) int the clip of each.
    several: (clips,) bool, clips of several windows; weak: (clips,) bool, those that were not annotated in time.
    recording, group: (clips,) int64, as in `Annotated`.
    y_true: rows -> (n, 2 * classes) float32 `[hard | soft]`, as they are to be looked at.
    informative: (classes,) bool, the classes with a positive among all rows.
    """

    row: np.ndarray
    clip: np.ndarray
    several: np.ndarray
    weak: np.ndarray
    recording: np.ndarray
    group: np.ndarray
    y_true: Callable[[np.ndarray], np.ndarray]
    informative: np.ndarray


def annotated_examples(
    rows: AnnotatedRows,
    classes: ClassList,
    activation: Activation,
    *,
    max_values: int = MAX_VALUES,
    every_class: bool = False,
    blind: np.ndarray | None = None,
) -> Annotated:
    """The annotated rows as examples, those of a clip together.

    Args:
      max_values: of a half; of more clips a part is taken, one drawn from each stretch.
      every_class: look at all classes; otherwise, where all would be too many values, at those with a positive alone
        (of exclusive classes, which only make sense together, always at all).
      blind: (classes,) bool, independent classes that the teacher lacks, of which the hard label alone will do.
    """
    clips = np.unique(rows.clip)
    columns = np.arange(len(classes))
    if not every_class and activation == "sigmoid" and len(clips) * len(classes) > max_values:
        columns = np.flatnonzero(rows.informative)
    chosen = one_of_each_stretch(clips, min(MAX_CLIPS, max(1, max_values // max(1, len(columns)))))
    kept = np.isin(rows.clip, chosen)
    row, clip = rows.row[kept], rows.clip[kept]
    nothing = np.zeros((0, len(columns)), np.float32)
    parts = [(nothing, nothing, row[:0], clip[:0])]
    rest = len(classes) - 1 if classes.names[-1] == REST else len(classes)
    both = np.concatenate([columns, len(classes) + columns])
    lacking = np.zeros(len(columns), bool) if blind is None else blind[columns]
    for block in _clip_slices(clip, max(1, _BLOCK // len(classes))):
        y_true = rows.y_true(row[block])[:, both]
        parts.append(_examples(row[block], clip[block], y_true, rows.weak, lacking, activation, rest))
    hard, soft, row, clip = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Annotated(
        hard=hard,
        soft=soft,
        columns=columns,
        row=row,
        several=rows.several[clip],
        weak=rows.weak[clip],
        recording=rows.recording[clip],
        group=rows.group[clip],
        clips=len(np.unique(clip)),
        all_clips=len(clips),
    )


def _clip_slices(clip: np.ndarray, rows: int) -> list[slice]:
    """Slices of about so many rows each that cut no clip; clip: (rows,) ascending."""
    ends = np.searchsorted(clip, clip[rows - 1 :: rows], side="right")
    edges = np.unique([0, *ends, len(clip)])
    return [slice(first, end) for first, end in pairwise(edges)]


def _examples(
    row: np.ndarray,
    clip: np.ndarray,
    y_true: np.ndarray,
    weak: np.ndarray,
    lacking: np.ndarray,
    activation: Activation,
    rest: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All rows of some clips -> hard, soft, row and clip of their examples; rest: the position of that class."""
    hard, soft = np.split(y_true, 2, axis=1)
    both = ~np.isnan(hard) & (lacking | ~np.isnan(soft))
    if activation == "softmax":
        complete = (both == ~np.isnan(soft)).all(axis=1) & (both.sum(axis=1) >= 2)
        both &= (complete & (hard.sum(axis=1, where=both) > 0) & (soft.sum(axis=1, where=both) > 0))[:, None]
    some = both.any(axis=1)
    row, clip = row[some], clip[some]
    hard, soft = np.where(both, hard, -1)[some], np.where(both & ~np.isnan(soft), soft, -1)[some]  # -1 is unknown
    starts = np.flatnonzero(np.diff(clip, prepend=-1))
    if not len(starts):
        return hard, soft, row, clip
    kept = ~weak[clip]  # (rows,)
    if activation == "softmax":
        kept[np.lexsort((-soft[:, :rest].max(axis=1), clip))[starts]] = True  # by clip, the surest window first
    else:
        for half in (hard, soft):
            half[starts] = np.where(kept[starts, None], half[starts], np.maximum.reduceat(half, starts))
        kept[starts] = True
    hard, soft = (np.where(half[kept] >= 0, half[kept], np.nan) for half in (hard, soft))
    return hard, soft, row[kept], clip[kept]
