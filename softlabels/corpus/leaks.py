"""Leaks: clips whose sound is in another split too, by which a student would be tested on what it was trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.corpus.manifest import Clip, end_of
from softlabels.ragged import places_by_value


def shared_audio(clips: Sequence[Clip], sha256: pa.Array, splits: set[str]) -> list[str]:
    """Clips that share sound with an earlier one of another split: the same bytes of a file at the same time.

    Args:
      clips: of the whole manifest; sha256: of their files, null where nobody knows.
      splits: of a pair, one at least is of these.
    Returns: a line each, with both clips and their splits.
    """
    split = _codes(pa.array([clip.split or "-" for clip in clips]))
    if not split.any():  # all of one split
        return []
    shared: dict[str, str] = {}
    for audio in (pa.array([clip.path for clip in clips]), sha256):  # the never labelled have no digest
        code = _codes(audio)
        known = np.flatnonzero(code >= 0)
        lowest, highest = np.full(len(code), np.iinfo(np.int64).max), np.full(len(code), -1)  # split of each audio
        np.minimum.at(lowest, code[known], split[known])
        np.maximum.at(highest, code[known], split[known])
        several = known[(lowest < highest)[code[known]]]  # clips whose audio stands in more than one split
        for places in places_by_value(code[several])[1]:
            for clip, other in _overlapping([clips[i] for i in several[places].tolist()], splits):
                what = f"{clip.clip_id} ({clip.split!r}) and {other.clip_id} ({other.split!r})"
                shared.setdefault(clip.clip_id, what)
    return list(shared.values())


def _overlapping(clips: list[Clip], splits: set[str]) -> Iterator[tuple[Clip, Clip]]:
    """Clips of one piece of audio, each with an earlier one of another split that reaches into it; no pair twice."""
    latest: dict[str, Clip] = {}  # split -> its clip that ends last so far
    for clip in sorted(clips, key=lambda each: each.start_s):
        for name, other in latest.items():
            if name != clip.split and splits & {name, clip.split} and end_of(other) > clip.start_s:
                yield clip, other
        latest[clip.split] = max(clip, latest.get(clip.split, clip), key=end_of)


def _codes(texts: pa.Array) -> np.ndarray:
    """(n,) texts -> (n,) int64, equal where they are; -1 for none."""
    encoded = pc.if_else(pc.equal(texts, ""), None, texts).dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
