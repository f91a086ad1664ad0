"""Duplicates: windows of different clips with exactly the same probabilities, so most likely the same audio."""

import hashlib
from dataclasses import dataclass

import numpy as np

from softlabels.store.index import StoreIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Clips that share identical vectors. clip_ids: at most `SHOWN` of them, in store order; windows: of all clips."""

    clip_ids: tuple[str, ...]
    clips: int
    windows: int


SHOWN = 8


class Duplicates:
    """Digests every window's probabilities; 8 bytes a window."""

    def __init__(self, windows: int) -> None:
        self._digest = np.zeros(windows, np.uint64)  # 0 where there is no label

    def add(self, windows: np.ndarray, probabilities: np.ndarray) -> None:
        """windows: (n,) int64; probabilities: (n, classes) float32."""
        rows = np.ascontiguousarray(probabilities)
        digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
        self._digest[windows] = np.frombuffer(digests, np.uint64)

    def groups(self, index: StoreIndex) -> list[Duplicate]:
        """Sets of clips with identical windows, the largest first."""
        order = np.argsort(self._digest, kind="stable")
        digest = self._digest[order]
        starts = np.flatnonzero(np.diff(digest, prepend=~digest[:1]))
        ends = np.append(starts[1:], len(digest))
        sets: dict[tuple[int, ...], int] = {}
        for first, end in zip(starts.tolist(), ends.tolist(), strict=True):
            clips = tuple(np.unique(index.stored_clip[order[first:end]]).tolist()) if end - first > 1 else ()
            if len(clips) > 1 and digest[first]:
                sets[clips] = sets.get(clips, 0) + end - first
        largest = sorted(sets.items(), key=lambda item: (-item[1], item[0]))
        return [
            Duplicate(
                clip_ids=tuple(index.clips["clip_id"].take(clips[:SHOWN]).to_pylist()),
                clips=len(clips),
                windows=windows,
            )
            for clips, windows in largest
        ]
