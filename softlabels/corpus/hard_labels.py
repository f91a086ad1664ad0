"""HardLabels: what people annotated, as rows of 1, 0 and NaN that are made when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from softlabels.corpus.manifest import Clip
from softlabels.errors import JoinError
from softlabels.ragged import offsets_of, owners, ranges

TABLE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HardLabels:
    """One label a group of rows (a clip's windows, or a single window), kept as what differs from its base.

    base: (groups,) float32, what a group says of the classes it does not name: 0 (annotated as absent) or NaN.
    offsets: (groups + 1,) int64: group g names the classes index[offsets[g] : offsets[g + 1]], (entries,) int32,
    and says value, (entries,) float32, of each: 1 present, 0 absent, NaN unknown.
    """

    base: np.ndarray
    offsets: np.ndarray
    index: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.base)

    @classmethod
    def of_clips(cls, clips: Sequence[Clip], positions: dict[str, int]) -> "HardLabels":
        """One group a clip: 1 for its labels, NaN for unsure ones, 0 for the rest; NaN for it where it has no labels.

        Args:
          positions: name -> class, for every label there is; see `find_labels`. An unsure or absent name that has none
            is passed over: it is no class of this student's.
        Raises: JoinError: a clip is given one class twice, under two names.
        """
        counts, index, value = [], [], []
        twice = []
        for clip in clips:
            sure = sorted({positions[name] for name in clip.labels or ()})
            # Less what the clip is sure of, be it under another name.
            unsure = sorted({positions[name] for name in clip.unsure if name in positions} - set(sure))
            absent = []
            if clip.absent:  # a million clips have none
                absent = sorted({positions[n] for n in clip.absent if n in positions}.difference(sure, unsure))
            if len(sure) < len(clip.labels or ()):
                twice.append(f"{clip.clip_id!r}: {', '.join(clip.labels or ())}")
            counts.append(len(sure) + len(unsure) + len(absent))
            index += sure + unsure + absent
            value += [1.0] * len(sure) + [np.nan] * len(unsure) + [0.0] * len(absent)
        if twice:
            listed = "; ".join(twice[:10])
            raise JoinError(f"{len(twice)} clips name one class twice, under two names: {listed}; keep one of them")
        return cls(
            base=np.array([np.nan if clip.labels is None else 0 for clip in clips], np.float32),
            offsets=offsets_of(np.array(counts, np.int64)),
            index=np.array(index, np.int32),
            value=np.array(value, np.float32),
        )

    def fits(self, classes: int) -> bool:
        """Whether all offsets and positions point at what is there, and every value is 0 to 1, or NaN."""
        if len(self.offsets) != len(self) + 1 or len(self.index) != len(self.value):
            return False
        pointed = self.index if len(self.index) else np.zeros(1, np.int32)
        ends = (self.offsets[0], self.offsets[-1]) == (0, len(self.index))
        ascending = (self.offsets[1:] >= self.offsets[:-1]).all() and pointed.min() >= 0 and pointed.max() < classes
        return bool(ends and ascending and not any(((x < 0) | (x > 1)).any() for x in (self.base, self.value)))

    def rows(self, groups: np.ndarray, classes: int, out: np.ndarray | None = None) -> np.ndarray:
        """(rows,) groups -> (rows, classes) float32, written to `out` where given."""
        hard = np.empty((len(groups), classes), np.float32) if out is None else out
        hard[...] = self.base[groups][:, None]
        first = self.offsets[groups]
        counts = self.offsets[groups + 1] - first
        entry = ranges(first, counts)
        hard[owners(counts), self.index[entry]] = self.value[entry]
        return hard

    def says_anything(self) -> np.ndarray:
        """(groups,) bool: whether anybody annotated a group, be it for one class."""
        return (self.base == self.base) | self._groups_with(self.value == self.value)

    def with_positives(self) -> np.ndarray:
        """(groups,) bool: whether a group has a 1."""
        return self._groups_with(self.value == 1)

    def _groups_with(self, entries: np.ndarray) -> np.ndarray:
        return np.bincount(self._group_of_entry()[entries], minlength=len(self)) > 0

    def positives(self, rows_of_group: np.ndarray, classes: int) -> np.ndarray:
        """(classes,) int64: how many rows have a 1, where group g has rows_of_group[g] rows."""
        present = self.value == 1
        weights = rows_of_group[self._group_of_entry()[present]]
        return np.bincount(self.index[present], weights, classes).astype(np.int64)

    def followed_by(self, other: "HardLabels") -> "HardLabels":
        """The groups of both, those of `other` after these."""
        return HardLabels(
            base=np.concatenate([self.base, other.base]),
            offsets=np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            index=np.concatenate([self.index, other.index]),
            value=np.concatenate([self.value, other.value]),
        )

    def _group_of_entry(self) -> np.ndarray:
        return owners(np.diff(self.offsets))

    def table(self, classes: int) -> np.ndarray | None:
        """(groups, classes) float32, all groups at once, where that takes no more than TABLE_BYTES; else None."""
        if len(self) * classes * 4 > TABLE_BYTES:
            return None
        return self.rows(np.arange(len(self)), classes)

    def without_doubles(self) -> tuple["HardLabels", np.ndarray]:
        """The different labels there are, and (groups,) int32 which of them each group has."""
        seen: dict[tuple[bytes, bytes, bytes], int] = {}  # as bytes, one NaN equals another
        base, index, value = self.base.tobytes(), self.index.tobytes(), self.value.tobytes()
        ends = (4 * self.offsets).tolist()
        parts = ((base[4 * g : 4 * g + 4], index[a:b], value[a:b]) for g, (a, b) in enumerate(pairwise(ends)))
        which = np.fromiter((seen.setdefault(part, len(seen)) for part in parts), np.int32, len(self))
        first = np.unique(which, return_index=True)[1]  # (different labels,) a group that has each
        counts = np.diff(self.offsets)[first]
        entry = ranges(self.offsets[first], counts)
        kept = HardLabels(
            base=self.base[first], offsets=offsets_of(counts), index=self.index[entry], value=self.value[entry]
        )
        return kept, which
