"""Evidence: how people labelled each clip, and the highest probabilities for and against these labels.

A label is a clip's, a probability a window's: a weak label does not say which window. So every class counts with its
maximum over the clip's windows.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from softlabels.classes.class_list import ClassList
from softlabels.classes.finder import nearest_names
from softlabels.corpus.hard_labels import HardLabels
from softlabels.corpus.label_cell import NOISE
from softlabels.corpus.label_names import find_labels
from softlabels.corpus.manifest import Clip
from softlabels.errors import ManifestError
from softlabels.ragged import owners, ranges
from softlabels.store.index import StoreIndex, positions_of

MAX_VALUES = 1 << 24  # clips x labelled classes looked at for rankings; of more clips an evenly spaced part


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanLabels:
    """The annotated clips of a manifest that the store has.

    clips: the manifest's rows; position: (clips,) int64, their rows in `StoreIndex.clips`. classes: (labelled,) int64
    positions in the teacher's list of the classes in use; hard: one group a clip over these. unknown: label -> clips
    and the teacher's class with the nearest name, or "", for labels that the teacher has no class for; in_doubt:
    (clips,) bool: with such a label, so that nothing else is known to be absent. names: label, as the manifest has it,
    -> position. not_stored, not_annotated: clips of the manifest left out.
    """

    clips: tuple[Clip, ...]
    position: np.ndarray
    classes: np.ndarray
    hard: HardLabels
    unknown: dict[str, tuple[int, str]]
    in_doubt: np.ndarray
    names: dict[str, int]
    not_stored: int
    not_annotated: int

    @classmethod
    def of(
        cls,
        manifest: Sequence[Clip],
        index: StoreIndex,
        teacher: ClassList,
        other_labels: Literal["absent", "unknown"] = "unknown",
    ) -> "HumanLabels":
        """other_labels: as in `SoftLabelStore.join`. Raises: ManifestError: the store has none of the clips."""
        position = positions_of([clip.clip_id for clip in manifest], index.clips)
        stored = position >= 0
        if not stored.any():
            raise ManifestError(
                f"the manifest: expected clips of this store, got {len(manifest)} of which it has none, such as "
                f"{manifest[0].clip_id!r}; name the manifest that the store was made from with --manifest"
            )
        kept = [i for i in np.flatnonzero(stored).tolist() if manifest[i].labels is not None]
        clips = tuple(manifest[i] for i in kept)
        found = find_labels(
            clips, teacher, "the manifest", teacher=teacher, other_labels=other_labels, doubts="unknown"
        )
        used = {name for clip in clips for name in clip.labels or ()} | ({NOISE} & found.positions.keys())
        names = {name: found.positions[name] for name in sorted(used & found.positions.keys())}
        classes = np.unique(list(names.values())).astype(np.int64)
        columns = {name: int(np.searchsorted(classes, at)) for name, at in found.positions.items() if at in classes}
        unknown = Counter(name for clip in clips for name in found.others.intersection(clip.labels or ()))
        nearest = nearest_names(unknown, teacher)
        unsure = other_labels == "unknown"
        in_doubt = np.array([unsure and not found.others.isdisjoint(clip.labels or ()) for clip in clips], bool)
        hard = HardLabels.of_clips(found.read(clips), columns)
        return cls(
            clips=clips,
            position=position[kept],
            classes=classes,
            hard=dataclasses.replace(hard, base=np.where(in_doubt, np.nan, hard.base).astype(np.float32)),
            unknown={name: (unknown[name], nearest[name]) for name in sorted(unknown, key=lambda n: (-unknown[n], n))},
            in_doubt=in_doubt,
            names=names,
            not_stored=int((~stored).sum()),
            not_annotated=int(stored.sum()) - len(clips),
        )


class ClipEvidence:
    """Follows a pass over the store and keeps each annotated clip's highest probabilities for and against its labels.

    entry_clip, entry_class: (entries,) int64, one for every label of every clip: the clip, and the position in
    `labels.classes`; entry_best: (entries,) float32, the highest probability of that class over the clip's windows.
    other, other_class, other_window: (clips,) the highest probability of a class that the clip is not annotated with,
    which class of the teacher's that is, and in which window; -1 where no window has a label. What "noise" excludes is
    the labelled classes only, so there it is the highest of these.
    looked: (some clips,) int64; highest: (some clips, labelled) float32: their maxima over all labelled classes.
    """

    def __init__(self, labels: HumanLabels, index: StoreIndex) -> None:
        self.labels = labels
        count, hard = len(labels.clips), labels.hard
        present = hard.value == 1
        self.entry_clip = owners(np.diff(hard.offsets))[present]
        self.entry_class = hard.index[present].astype(np.int64)
        self._first = np.searchsorted(self.entry_clip, np.arange(count + 1))
        self.entry_best = np.full(len(self.entry_clip), -1, np.float32)
        self.other = np.full(count, -1, np.float32)
        self.other_class, self.other_window = np.full((2, count), -1, np.int64)
        most = max(1, MAX_VALUES // max(1, len(labels.classes)))
        self.looked = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
        self.highest = np.full((len(self.looked), len(labels.classes)), np.nan, np.float32)
        self._index_clip = index.stored_clip
        self._clip_at = np.full(index.clips.num_rows, -1, np.int64)
        self._clip_at[labels.position] = np.arange(count)
        self._slot = np.full(count, -1, np.int64)
        self._slot[self.looked] = np.arange(len(self.looked))

    def add(self, windows: np.ndarray, probabilities: np.ndarray) -> None:
        """windows: (n,) int64; probabilities: (n, classes) float32."""
        clip = self._clip_at[self._index_clip[windows]]
        here = np.flatnonzero(clip >= 0)
        windows, clip, p = windows[here], clip[here], probabilities[here]  # p is a copy
        if len(here) and len(self.labels.classes):
            slot = self._slot[clip]
            np.fmax.at(self.highest, slot[slot >= 0], p[slot >= 0][:, self.labels.classes])
            self._add_entries(clip, p)
            self._add_others(windows, clip, p)

    def _add_entries(self, clip: np.ndarray, p: np.ndarray) -> None:
        counts = self._first[clip + 1] - self._first[clip]
        entry = ranges(self._first[clip], counts)
        np.maximum.at(self.entry_best, entry, p[owners(counts), self.labels.classes[self.entry_class[entry]]])

    def _add_others(self, windows: np.ndarray, clip: np.ndarray, p: np.ndarray) -> None:
        """Overwrites p."""
        hard = self.labels.hard.rows(clip, len(self.labels.classes))
        absent = np.where(hard == 0, p[:, self.labels.classes], -1)  # neither annotated nor unsure
        p[self._first[clip + 1] == self._first[clip]] = -1  # noise says nothing of classes that nobody labels
        p[self.labels.in_doubt[clip]] = -1  # nor does a label that is no class: the other may be what it means
        p[:, self.labels.classes] = absent
        best = p.argmax(axis=1)
        value = p[np.arange(len(p)), best]
        order = np.lexsort((value, clip))
        last = order[np.append(np.flatnonzero(np.diff(clip[order])), len(order) - 1)]  # the highest of each clip
        better = last[value[last] > self.other[clip[last]]]
        self.other[clip[better]] = value[better]
        self.other_class[clip[better]], self.other_window[clip[better]] = best[better], windows[better]

    def hard(self) -> np.ndarray:
        """(looked, labelled) float32: 1, 0 and NaN, as `highest` is laid out; NaN where no window has a label."""
        hard = self.labels.hard.rows(self.looked, len(self.labels.classes))
        return np.where(np.isnan(self.highest), np.nan, hard)
