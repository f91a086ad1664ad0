"""Dividing clips into train, test and the like: by recording or group, each class in proportion, from a seed."""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

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


def split_clips(
    clips: Sequence[Clip], shares: Mapping[str, float], *, seed: int = 0, group_of: Callable[[Clip], str] | None = None
) -> list[Clip]:
    """Give every clip that has no split one; clips of one group get the same.

    A group counts for its rarest label. Within a label, groups are drawn in an order that depends on their name and
    the seed alone, each for the split that lacks most of its share: of 3 at 0.8 and 0.2 one is for the test, of one or
    two none. A group that has a split already, the one of most of its clips, keeps it, and counts as drawn.

    Args:
      shares: split -> share, which sum to 1; the first of equals counts.
      seed: another one, another split.
      group_of: what tells the group of a clip; None is its file.
    Returns: the clips in their order.
    """
    groups = [group_of(clip) if group_of else clip.path for clip in clips]
    label_of, split_of = _rarest_labels(clips, groups), splits_of_groups(clips, groups)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(label_of, key=lambda group: hashlib.sha256(f"{seed}\0{group}".encode()).digest()):
        strata[label_of[group]].append(group)
    for found in strata.values():
        drawn = Counter(split_of[group] for group in found if group in split_of)
        new = [group for group in found if group not in split_of]
        split_of |= zip(new, _dealt(len(new), shares, drawn), strict=True)
    pairs = zip(clips, groups, strict=True)
    return [clip if clip.split else dataclasses.replace(clip, split=split_of[group]) for clip, group in pairs]


def splits_of_groups(clips: Sequence[Clip], groups: Sequence[str]) -> dict[str, str]:
    """group -> the split of most of its clips, of those that have one."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for clip, group in zip(clips, groups, strict=True):
        if clip.split:
            counts[group][clip.split] += 1
    return {group: min(found, key=lambda name: (-found[name], name)) for group, found in counts.items()}


def shares_there(clips: Sequence[Clip], group_of: Callable[[Clip], str]) -> dict[str, float]:
    """The share of the groups that each split has, the largest first."""
    counts = Counter(splits_of_groups(clips, [group_of(clip) for clip in clips]).values())
    return {name: counts[name] / counts.total() for name in sorted(counts, key=lambda name: (-counts[name], name))}


def _rarest_labels(clips: Sequence[Clip], groups: Sequence[str]) -> dict[str, str]:
    """group -> the rarest label of its clips; "noise" and "" cannot be class names and stand for none and unknown."""
    labels: dict[str, set[str]] = defaultdict(set)
    for clip, group in zip(clips, groups, strict=True):
        labels[group] |= {""} if clip.labels is None else set(clip.labels) or {"noise"}
    counts = Counter(label for found in labels.values() for label in found)
    return {group: min(found, key=lambda label: (counts[label], label)) for group, found in labels.items()}


def _dealt(groups: int, shares: Mapping[str, float], drawn: Mapping[str, int]) -> Iterator[str]:
    """A split for each of so many groups, where some were drawn before."""
    dealt = {name: drawn.get(name, 0) for name in shares}
    before = sum(dealt.values())
    for n in range(before + 1, before + groups + 1):
        name = max(shares, key=lambda name: round(shares[name] * n - dealt[name], 9))
        dealt[name] += 1
        yield name
