"""Annotations in time: the boxes that people drew, laid over windows as labels. `annotation_tables.py` reads them.

window  |------- 0 -------|------- 1 -------|------- 2 -------|
box A      |-----------------|                                    1 in both: 0.5 s or more in each
box B                                     |--|                    1 in window 1: too short for 0.5 s, fits best there
extent  |------------------------------------------|              elsewhere 0 in windows 0 and 1, NaN in window 2
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from softlabels.corpus.hard_labels import HardLabels
from softlabels.errors import ManifestError
from softlabels.ragged import owners, ranges
from softlabels.tables import raise_faults

REACH_S = 0.5  # of a box, at least, make a window positive
FLOAT_S = 1e-9  # times such as 0.1 + 0.2 are off by less
EDGE_S = 1e-3  # of an extent: tables have three decimals, and windows start at whole samples


BOX = np.dtype([("clip", np.int64), ("start_s", float), ("end_s", float), ("name", object), ("row", object)])
EXTENT = np.dtype([("clip", np.int64), ("start_s", float), ("end_s", float)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """Boxes and extents of clips. Clips are numbered as the manifest lists them; times are seconds in the file.

    listed_clips: (n,) int64, those with a box or an extent, in order; the others keep their manifest label.
    boxes: (boxes,) BOX: a label each, so that a box with several stands there several times; row: where in the tables
    it comes from, for errors. extents: (extents,) EXTENT by clip and time, without overlap.
    outside: rows of Raven tables left out because no clip of the manifest reaches them; notes: what else was left out.
    """

    listed_clips: np.ndarray
    boxes: np.ndarray
    extents: np.ndarray
    outside: int
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> set[str]:
        """The names in use."""
        return set(self.boxes["name"])

    def only(self, names: Collection[str]) -> "Annotations":
        """The same without boxes of other names; extents and clips stay."""
        return dataclasses.replace(self, boxes=self.boxes[[name in names for name in self.boxes["name"]]])

    def label_windows(
        self,
        clip: np.ndarray,
        start_s: np.ndarray,
        *,
        window_s: float,
        positions: dict[str, int],
        clip_ends: np.ndarray,
    ) -> HardLabels:
        """One label a window: 1 at 0.5 s of a box or more, else 0 inside the extents, else NaN.

        A box that reaches 0.5 s in no window goes to the one it overlaps most, the first of equals. So give all
        windows of a clip, or a short box may move to a neighbour of the one that is missing.

        Args:
          clip: (rows,) int positions of clips; rows of a clip together and in the order of time.
          start_s: (rows,) float64 where each window starts in its file, in seconds.
          window_s: length of a window; what lies after the end of the clip does not count.
          positions: name -> class, for every name in `labels`.
          clip_ends: (clips,) float64 where each clip ends in its file, in seconds; for clips without rows any number.
        Returns: (rows,) groups.
        Raises: ManifestError: a box starts after the end of its clip. ValueError: rows out of order, a name without
          a position.
        """
        clip, start_s = np.asarray(clip), np.asarray(start_s, float)
        beyond = max(0, self.boxes["clip"].max(initial=-1) + 1 - len(clip_ends))
        clip_ends = np.append(clip_ends, np.full(beyond, np.inf))  # clips that nobody asks about
        first, stop = _rows_of_clips(clip, start_s, len(clip_ends))
        lacking = sorted(self.labels - positions.keys())
        if lacking:
            raise ValueError(f"positions: expected every name of `labels`, got none for {', '.join(lacking[:10])}")
        late = (first < stop)[self.boxes["clip"]] & (self.boxes["start_s"] >= clip_ends[self.boxes["clip"]])
        faults = [
            f"{box['row']}: the box starts at {box['start_s']:g} s, but its clip ends at {clip_ends[box['clip']]:g} s "
            "of the file"
            for box in self.boxes[late]
        ]
        raise_faults("annotations", faults, ManifestError)
        end_s = np.minimum(start_s + window_s, clip_ends[clip])
        row, box = self._positive(start_s, end_s, first, stop)
        index = np.array([positions[name] for name in self.boxes["name"]], np.int64)[box]
        row, index = np.divmod(np.unique(row * (index.max(initial=0) + 1) + index), index.max(initial=0) + 1)
        before, after = (np.searchsorted(self.extents["clip"], clip, side) for side in ("left", "right"))
        extent = _bisect(self.extents["end_s"], end_s - EDGE_S, before, after)  # the first that ends late enough
        inside = extent < after
        inside[inside] = self.extents["start_s"][extent[inside]] <= start_s[inside] + EDGE_S
        return HardLabels(
            base=np.where(inside, 0, np.nan).astype(np.float32),
            offsets=np.searchsorted(row, np.arange(len(clip) + 1)),
            index=index.astype(np.int32),
            value=np.ones(len(index), np.float32),
        )

    def _positive(
        self, start_s: np.ndarray, end_s: np.ndarray, first: np.ndarray, stop: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(pairs,) rows and the boxes that make them positive."""
        clip, box_start_s, box_end_s = (self.boxes[name] for name in ("clip", "start_s", "end_s"))
        first = _bisect(end_s, box_start_s, first[clip], stop[clip])  # the first window that ends after the box's start
        counts = _bisect(start_s, box_end_s, first, stop[clip]) - first
        box, row = owners(counts), ranges(first, counts)
        overlap = np.minimum(end_s[row], box_end_s[box]) - np.maximum(start_s[row], box_start_s[box])
        best = np.zeros(len(counts))
        np.maximum.at(best, box, overlap)
        ties = np.flatnonzero((overlap > 0) & (overlap >= best[box] - FLOAT_S))
        reached = overlap >= REACH_S - FLOAT_S
        reached[ties[np.unique(box[ties], return_index=True)[1]]] = True  # where 0.5 s is reached, this one has it too
        return row[reached], box[reached]


def _rows_of_clips(clip: np.ndarray, start_s: np.ndarray, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """(clips,) first row and the one after the last of every clip; both 0 where it has none."""
    new = np.flatnonzero(np.r_[True, clip[1:] != clip[:-1]][: len(clip)])
    same = clip[1:] == clip[:-1]
    if len(np.unique(clip[new])) < len(new) or (start_s[1:][same] < start_s[:-1][same]).any():
        raise ValueError("clip, start_s: expected the rows of a clip together and in the order of time; sort them")
    first, stop = np.zeros((2, clips), np.int64)
    first[clip[new]] = new
    stop[clip[new]] = np.append(new[1:], len(clip))
    return first, stop


def _bisect(values: np.ndarray, limits: np.ndarray, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """For each limit the first k in first..stop with values[k] >= limit, else stop; values rise in that range."""
    first, stop = first.copy(), stop.copy()
    while (searching := np.flatnonzero(first < stop)).size:
        middle = (first[searching] + stop[searching]) // 2
        below = values[middle] < limits[searching]
        first[searching[below]] = middle[below] + 1
        stop[searching[~below]] = middle[~below]
    return first
