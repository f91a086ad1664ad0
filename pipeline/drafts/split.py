"""Dividing clips into train, test and the like: by recording, each class in proportion, from a seed."""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from softlabels.corpus.manifest import Clip


def parse_shares(text: str) -> dict[str, float]:
    """`train=0.8,test=0.2` -> the share of each split. Raises: ValueError: not such a text, or not 1 in sum."""
    try:
        shares = {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        shares = {}
    fine = all(name and 0 < share <= 1 for name, share in shares.items())
    if not fine or len(shares) < text.count(",") + 1 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"--split: expected shares that sum to 1 such as train=0.8,test=0.2, got {text!r}")
    return shares


def split_clips(clips: Sequence[Clip], shares: Mapping[str, float], *, seed: int = 0) -> list[Clip]:
    """Give every clip a split; clips of one file get the same.

    A recording counts for its rarest label. Within a label, recordings are drawn in an order that depends on path and
    seed alone, each for the split that lacks most of its share: of 3 recordings at 0.8 and 0.2 one is for the test, of
    one or two none.

    Args:
      shares: split -> share, which sum to 1; the first of equals counts.
      seed: another one, another split.
    Returns: the clips in their order.
    """
    label_of = _rarest_labels(clips)
    strata: dict[str, list[str]] = defaultdict(list)
    for path in sorted(label_of, key=lambda path: hashlib.sha256(f"{seed}\0{path}".encode()).digest()):
        strata[label_of[path]].append(path)
    split_of: dict[str, str] = {}
    for paths in strata.values():
        split_of |= zip(paths, _dealt(len(paths), shares), strict=True)
    return [dataclasses.replace(clip, split=split_of[clip.path]) for clip in clips]


def _rarest_labels(clips: Iterable[Clip]) -> dict[str, str]:
    """path -> the rarest label of its clips; "noise" and "" cannot be class names and stand for none and unknown."""
    labels: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        labels[clip.path] |= {""} if clip.labels is None else set(clip.labels) or {"noise"}
    recordings = Counter(label for found in labels.values() for label in found)
    return {path: min(found, key=lambda label: (recordings[label], label)) for path, found in labels.items()}


def _dealt(recordings: int, shares: Mapping[str, float]) -> Iterable[str]:
    """A split for each of so many recordings."""
    dealt = dict.fromkeys(shares, 0)
    for n in range(1, recordings + 1):
        name = max(shares, key=lambda name: round(shares[name] * n - dealt[name], 9))
        dealt[name] += 1
        yield name
