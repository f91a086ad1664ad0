"""HardLabels: what people annotated, as rows of 1, 0 and NaN that are made when they are asked for."""

import logging
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlabels.classes.class_list import ClassList
from softlabels.classes.finder import ClassFinder
from softlabels.corpus.manifest import Clip
from softlabels.errors import JoinError
from softlabels.ragged import owners, ranges
from softlabels.tables import some

TABLE_BYTES = 64 << 20
logger = logging.getLogger(__name__)


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
        """One group a clip: 1 for its labels, NaN for unsure ones, 0 for the rest; all NaN where nobody annotated it.

        Args:
          positions: name -> class, for every label there is; see `label_positions`. An unsure name that has none is
            passed over: it is no class of this student's.
        Raises: JoinError: a clip is given one class twice, under two names.
        """
        labels = [sorted({positions[name] for name in clip.labels or ()}) for clip in clips]
        twice = [clip for clip, found in zip(clips, labels, strict=True) if len(found) < len(clip.labels or ())]
        if twice:
            listed = "; ".join(f"{clip.clip_id!r}: {', '.join(clip.labels or ())}" for clip in twice[:10])
            raise JoinError(f"{len(twice)} clips name one class twice, under two names: {listed}; keep one of them")
        unsure = [
            sorted({positions[name] for name in clip.unsure if name in positions} - set(found)) if clip.unsure else []
            for clip, found in zip(clips, labels, strict=True)
        ]  # less what the clip is sure of, be it under another name
        entries = list(zip(labels, unsure, strict=True))
        index = np.array([i for each in entries for part in each for i in part], np.int32)
        value = [v for sure, open_ in entries for v in (*[1.0] * len(sure), *[np.nan] * len(open_))]
        return cls(
            base=np.array([np.nan if clip.labels is None else 0 for clip in clips], np.float32),
            offsets=np.cumsum([0, *(len(sure) + len(open_) for sure, open_ in entries)], dtype=np.int64),
            index=index,
            value=np.array(value, np.float32),
        )

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
        known = self.base == self.base
        known[self._group_of_entry()[self.value == self.value]] = True
        return known

    def positives(self, rows_of_group: np.ndarray, classes: int) -> np.ndarray:
        """(classes,) int64: how many rows have a 1, where group g has rows_of_group[g] rows."""
        present = self.value == 1
        weights = rows_of_group[self._group_of_entry()[present]]
        return np.bincount(self.index[present], weights, classes).astype(np.int64)

    def with_positives(self) -> np.ndarray:
        """(groups,) bool: whether a group has a 1."""
        some = np.zeros(len(self), bool)
        some[self._group_of_entry()[self.value == 1]] = True
        return some

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
        seen: dict[tuple[bytes, bytes, bytes], int] = {}
        index, value = self.index.tobytes(), self.value.tobytes()
        ends = (4 * self.offsets).tolist()
        which = np.fromiter(
            (
                seen.setdefault((base, index[a:b], value[a:b]), len(seen))
                for base, a, b in zip(_bytes_of_each(self.base), ends, ends[1:], strict=False)
            ),
            np.int32,
            len(self),
        )
        parts = [(np.frombuffer(i, np.int32), np.frombuffer(v, np.float32)) for _, i, v in seen]
        kept = HardLabels(
            base=np.frombuffer(b"".join(base for base, _, _ in seen), np.float32),
            offsets=np.cumsum([0, *(len(i) for i, _ in parts)], dtype=np.int64),
            index=np.concatenate([np.zeros(0, np.int32), *(i for i, _ in parts)]),
            value=np.concatenate([np.zeros(0, np.float32), *(v for _, v in parts)]),
        )
        return kept, which


def _bytes_of_each(values: np.ndarray) -> Iterator[bytes]:
    """The four bytes of each float32, so that one NaN equals another."""
    data = values.tobytes()
    return (data[i : i + 4] for i in range(0, len(data), 4))


def clip_labels(
    clips: Sequence[Clip], classes: ClassList, source: str | Path, *, further: Set[str] = frozenset()
) -> tuple[HardLabels, dict[str, int]]:
    """The labels of clips, one group a clip, and name -> class of every name in use.

    Args:
      source: where the labels stand, for errors; further: names in use elsewhere, such as in annotations.
    Raises: JoinError: as `label_positions` and `HardLabels.of_clips`.
    """
    names = {name for clip in clips for name in clip.labels or ()} | further
    unsure = {name for clip in clips for name in clip.unsure}
    positions = label_positions(names, classes, source, unsure=unsure)
    return HardLabels.of_clips(clips, positions), positions


def label_positions(
    names: Set[str], classes: ClassList, source: str | Path, *, unsure: Set[str] = frozenset()
) -> dict[str, int]:
    """name -> position in the class list, found as `ClassFinder` finds them.

    Args:
      names: the labels in use; source: where they stand, for the error.
      unsure: further ones that may be in no class list: recordists name whatever sings in the background.
    Raises: JoinError: a label that is not in the class list.
    """
    finder = ClassFinder(classes)
    maybe = {name: finder.find(name) for name in unsure - names}
    strange = sorted(name for name, hit in maybe.items() if hit is None)
    if strange:
        logger.warning(
            "'%s': %d of the names marked '?' are not in the class list and say nothing, such as %r",
            source,
            len(strange),
            strange[0],
        )
    found = {name: finder.find(name) for name in names}
    mixed = sorted(name for name, hit in found.items() if hit and finder.contradicts(name, classes[hit[0]]))
    if mixed:
        raise JoinError(
            f"'{source}': {len(mixed)} labels have the halves of two different classes: {some(mixed)}; correct them"
        )
    unknown = sorted(name for name, hit in found.items() if hit is None)
    if unknown:
        raise JoinError(
            f"'{source}': {len(unknown)} labels are not in the class list of {len(classes)}: {some(unknown)}; correct "
            "them, add them to `classes`, or leave the clips out"
        )
    return {name: hit[0] for name, hit in {**maybe, **found}.items() if hit is not None}
