"""JoinArrays: a join as flat arrays, a row a window; which row numbers are right, and the one copy a batch costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.calibration.mixture import WeakWindows
from softlabels.classes.class_list import Activation, ClassList
from softlabels.corpus.hard_labels import HardLabels
from softlabels.evidence.agreement import one_of_each_stretch
from softlabels.evidence.examples import (
    MAX_VALUES,
    TAUGHT,
    Annotated,
    AnnotatedRows,
    Unannotated,
    annotated_examples,
)
from softlabels.kept.soft_file import CheckedRows
from softlabels.windows import WindowSpec

SAMPLE_ROWS, SAMPLE_BYTES = 20_000, 64 << 20  # of rows looked at
Reader = Callable[[np.ndarray], np.ndarray]  # (n,) rows -> (n, ...) float32, mostly `[hard | soft]`


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinArrays:
    """The parts of a join; memory-mapped once they come from disk.

    clips: one row a clip; `in_time` is true where people annotated its windows. clip_row: (rows,) int32 the clip of
    each, ascending; window_index: (rows,) int32; start_s: (rows,) float64 in the file, for people. hard, hard_group:
    the hard labels, and (rows,) int32 which of their groups each row has. soft: (rows, classes) float32, checked as it
    is read; NaN where the teacher has no answer.
    """

    clips: pa.Table
    clip_row: np.ndarray
    window_index: np.ndarray
    start_s: np.ndarray
    hard: HardLabels
    hard_group: np.ndarray
    soft: CheckedRows

    def __len__(self) -> int:
        return len(self.clip_row)

    def rows_of(self, clip_row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) clips -> (n,) first row of each, and (n,) the one after its last."""
        clip_row = clip_row.astype(self.clip_row.dtype)  # of another type, every row would be converted for the search
        return np.searchsorted(self.clip_row, clip_row), np.searchsorted(self.clip_row, clip_row, side="right")

    def clip_starts(self, clip_row: np.ndarray, window: WindowSpec) -> np.ndarray:
        """(n,) clips -> (n,) int64: the sample at which window 0 of each begins in its file, at the teacher's rate."""
        some = self.clips.select(["start", "rate_hz"]).take(clip_row)
        starts = window.starts(some["start"].to_numpy(), some["rate_hz"].to_numpy(), 0)
        unplanned = np.flatnonzero(some["rate_hz"].to_numpy() == 0)  # only their rows say where they begin
        if len(unplanned) and len(self):
            first = np.minimum(self.rows_of(clip_row[unplanned])[0], len(self) - 1)
            starts[unplanned] = np.rint(self.start_s[first] * window.rate_hz)
        return starts

    def annotated(self) -> np.ndarray:
        """(rows,) bool: whether anybody annotated a row, be it for one class."""
        return self.hard.says_anything()[self.hard_group]

    def several_windows(self) -> np.ndarray:
        """(clips,) bool: clips of several windows."""
        return self.clips["windows"].to_numpy() > 1

    def weak_clips(self) -> np.ndarray:
        """(clips,) bool: clips of several windows whose labels, if they have any, do not say which."""
        return self.several_windows() & ~self.clips["in_time"].to_numpy(zero_copy_only=False)

    def annotated_sample(self, has_soft: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Some annotated rows, drawn if there are many: (n,), soft and hard (n, classes) float32 of each.

        They have a positive hard label, and are among those that are (rows,) bool.
        """
        rows = np.flatnonzero(self.hard.with_positives()[self.hard_group] & has_soft)
        rows = one_of_each_stretch(rows, max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // (4 * self.soft.shape[1]))))
        return rows, self.soft[rows], self.hard.rows(self.hard_group[rows], self.soft.shape[1])

    def names(self, rows: np.ndarray) -> tuple[str, ...]:
        """What to call some rows in front of people."""
        clip_ids = self.clips["clip_id"].take(self.clip_row[rows]).to_pylist()
        return tuple(f"{name}, window {i}" for name, i in zip(clip_ids, self.window_index[rows], strict=True))

    def y_true(self, rows: np.ndarray) -> np.ndarray:
        """(n,) rows -> (n, 2 * classes) float32 `[hard | soft]`, as they are."""
        return np.concatenate([self.hard.rows(self.hard_group[rows], self.soft.shape[1]), self.soft[rows]], axis=1)


def annotated_clips(
    arrays: JoinArrays,
    y_true: Reader,
    classes: ClassList,
    activation: Activation,
    *,
    pooled: bool,
    max_values: int = MAX_VALUES,
    every_class: bool = False,
    blind: np.ndarray | None = None,
) -> Annotated:
    """The annotated examples of a join, but for clips of the split "teacher".

    Args:
      y_true, max_values, every_class, blind: as in `annotated_examples`. pooled: whether a row is a clip, not a window.
    """
    rows = np.flatnonzero(arrays.annotated() & ~_taught(arrays))
    several = arrays.several_windows()
    recording, group = _recordings(arrays.clips)
    rows_of_group = np.bincount(arrays.hard_group[rows], minlength=len(arrays.hard))
    found = AnnotatedRows(
        row=rows,
        clip=arrays.clip_row[rows],
        several=several & (not pooled),
        weak=arrays.weak_clips() & (not pooled),
        recording=recording,
        group=group,
        y_true=y_true,
        informative=arrays.hard.positives(rows_of_group, arrays.soft.shape[1]) > 0,
    )
    return annotated_examples(found, classes, activation, max_values=max_values, every_class=every_class, blind=blind)


def unannotated_windows(arrays: JoinArrays, soft: Reader, columns: np.ndarray, *, pooled: bool) -> Unannotated:
    """What the teacher gave some of the rows that nobody annotated, but for clips of the split "teacher".

    Args:
      soft: (n,) rows -> (n, classes) float32. columns: positions of the classes that are asked about.
    """
    rows = np.flatnonzero(~arrays.annotated() & ~_taught(arrays))
    rows = one_of_each_stretch(rows, max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // (4 * max(1, len(columns))))))
    blocks = [soft(block)[:, columns] for block in np.array_split(rows, 1 + len(rows) // 1024)]
    clip = arrays.clip_row[rows]
    return Unannotated(
        soft=np.concatenate(blocks),
        row=rows,
        recording=_recordings(arrays.clips)[0][clip],
        weak=arrays.weak_clips()[clip] & (not pooled),
    )


def weak_windows(arrays: JoinArrays, y_true: Reader) -> WeakWindows:
    """Windows of weakly labelled clips, but for clips of the split "teacher"; of many clips a part."""
    weak = arrays.annotated() & ~_taught(arrays) & arrays.weak_clips()[arrays.clip_row]
    clips = np.unique(arrays.clip_row[weak])
    windows_a_clip = max(1, np.count_nonzero(weak) // max(1, len(clips)))
    most = max(1, SAMPLE_BYTES // (8 * arrays.soft.shape[1]) // windows_a_clip)
    rows = np.flatnonzero(weak & np.isin(arrays.clip_row, one_of_each_stretch(clips, most)))
    hard, soft = np.split(y_true(rows), 2, axis=1)
    clip = arrays.clip_row[rows].astype(np.int64)
    return WeakWindows(hard=hard, soft=soft, clip=clip, recording=_recordings(arrays.clips)[0][clip])


def _taught(arrays: JoinArrays) -> np.ndarray:
    """(rows,) bool: of clips that the teacher was trained on."""
    return pc.equal(arrays.clips["split"], TAUGHT).to_numpy(zero_copy_only=False)[arrays.clip_row]


def _recordings(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(clips,) int64 each: the recordings of clips, and their folds where the manifest names at least two."""
    fold, path = (table[name].combine_chunks().dictionary_encode() for name in ("fold", "path"))
    recording = path.indices.to_numpy().astype(np.int64)
    names = fold.dictionary.to_pylist()
    if len(set(names) - {""}) < 2:
        return recording, recording
    of_fold = fold.indices.to_numpy().astype(np.int64)
    unnamed = np.array([name == "" for name in names])[of_fold]
    return recording, np.where(unnamed, len(names) + recording, of_fold)


def checked_rows(rows: Any, count: int) -> np.ndarray:
    """(n,) row numbers of a join of `count` rows; None is all. Raises: ValueError: others than 0 to count - 1."""
    if rows is None:
        return np.arange(count)
    rows = np.asarray(rows) if len(rows) else np.zeros(0, np.int64)
    whole = rows.dtype.kind in "iu" and rows.ndim == 1
    # As unsigned numbers negative ones are huge: one pass over the rows checks both ends.
    if not whole or (len(rows) and rows.astype(np.int64, copy=False).view(np.uint64).max() >= count):
        raise ValueError(f"rows: expected row numbers from 0 to {count - 1}, got {rows!r}")
    return rows


def fill(arrays: JoinArrays, table: np.ndarray | None, rows: np.ndarray, hard: np.ndarray, soft: np.ndarray) -> None:
    """Write both halves of some checked rows, each (n, classes) and perhaps strided; table: of `HardLabels`."""
    groups = arrays.hard_group.take(rows)
    if table is None:
        arrays.hard.rows(groups, hard.shape[1], out=hard)
    else:
        _gather(table, groups, hard)
    _gather(arrays.soft.checked(rows), rows, soft)


def _gather(source: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """out[...] = source[rows]; `out` may be strided.

    Long rows are copied one by one, straight to where they belong; short ones through a block that stays in cache.
    Row numbers are checked before, so "clip" never clips: it only spares NumPy a second buffer.
    """
    if source.shape[1] >= 2048:
        for i, row in enumerate(rows.tolist()):
            out[i] = source[row]
    else:
        out[...] = source.take(rows, axis=0, mode="clip")
