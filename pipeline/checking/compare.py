"""compare(): what two stores say about the same audio: two teachers, or one with two settings.

Clips meet by clip_id and audio digest, windows by time: a window of A meets the window of B whose centre is nearest,
if they share at least half of the shorter one.

figure              of
same_top_class      matched windows: the share in which both give one class the highest probability
heard_by_...        (window, class) pairs with a probability of 0.5 or more: in both stores, or in one only
correlation         a class: of its log-odds in A and B, so that another calibration alone does not lower it
kl                  a class: nats, from A's to B's yes-or-no probability, mean over windows; a window: sum over classes

All over the classes that both have. Log-odds are held within those of 1e-13 and of the largest float32 below 1. In a
sparse store the classes below its threshold share their sum, which lowers the correlation of those seldom above it.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from softlabels.classes.class_list import ClassList
from softlabels.classes.finder import HOW, ClassFinder
from softlabels.errors import StoreError
from softlabels.ragged import places_by_value
from softlabels.records.plan_file import ClipIdentity, clip_differences
from softlabels.store.index import LABELLED, positions_of
from softlabels.store.reader import StoreReader
from softlabels.threads import in_threads
from softlabels.windows import meet, places

HEARD = 0.5
MOST_DIFFERENT = 10  # windows
BLOCK = 256  # windows looked at together
SHARDS_HELD = 4  # of B: both stores are in the order of clip_ids
_LEAST, _MOST = 1e-13, 1 - 2.0**-24


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassComparison:
    """One class that both have. correlation is None where one store says the same everywhere."""

    name: str
    name_b: str
    mean_a: float
    mean_b: float
    correlation: float | None
    kl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowDifference:
    """One window of A, the one of B it met, and each store's top class."""

    kl: float
    clip_id: str
    start_a_s: float
    start_b_s: float
    class_a: str
    probability_a: float
    class_b: str
    probability_b: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two stores say about the same audio; see the module for the figures.

    clips_only_a, clips_only_b, clips_other_audio: clip_ids of one store only, or whose audio is not the same.
    unmatched_windows: labelled windows of A, in clips that both have, that meet none of B.
    classes: worst first; classes_only_a, classes_only_b: names that are not found in the other list.
    """

    a: str
    b: str
    clips: int
    clips_only_a: int
    clips_only_b: int
    clips_other_audio: int
    windows: int
    unmatched_windows: int
    same_top_class: float
    heard_by_both: int
    heard_by_a_only: int
    heard_by_b_only: int
    kl: float
    classes: tuple[ClassComparison, ...]
    classes_only_a: tuple[str, ...]
    classes_only_b: tuple[str, ...]
    most_different: tuple[WindowDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


def compare(a: StoreReader, b: StoreReader, *, on_windows: Callable[[int], None] = lambda n: None) -> Comparison:
    """Compare two stores shard by shard.

    Args:
      on_windows: called with the number of windows just compared.
    Raises: StoreError: no class, no clip or no window in common, or a damaged store.
    """
    position_a, position_b = _common_classes(a.classes, b.classes)
    pairs, counts = _match_clips(a, b)
    entry_a, entry_b, unmatched = _match_windows(a, b, pairs)
    sums = _Sums(len(position_a))
    for here, p, q in _probabilities(a, b, entry_a, entry_b):
        sums.add(here, p[:, position_a], q[:, position_b])
        on_windows(len(here))
    names_a, names_b = [a.classes[i] for i in position_a], [b.classes[i] for i in position_b]
    both, a_only, b_only = sums.heard.tolist()
    found_a, found_b = set(names_a), set(names_b)
    return Comparison(
        a=str(a.storage),
        b=str(b.storage),
        **counts,
        windows=sums.windows,
        unmatched_windows=unmatched,
        same_top_class=sums.same_top / sums.windows,
        heard_by_both=both,
        heard_by_a_only=a_only,
        heard_by_b_only=b_only,
        kl=float(sums.sums[-1].sum() / sums.windows),
        classes=sums.classes(names_a, names_b),
        classes_only_a=tuple(name for name in a.classes if name not in found_a),
        classes_only_b=tuple(name for name in b.classes if name not in found_b),
        most_different=tuple(_most_different(sums.most, (a, entry_a, names_a), (b, entry_b, names_b))),
    )


def _common_classes(a: ClassList, b: ClassList) -> tuple[np.ndarray, np.ndarray]:
    """Positions in A and in B of the classes that both have; of several names for one class, the surest is it."""
    finder = ClassFinder(b)
    hits = [(HOW.index(hit[1]), i, hit[0]) for i, hit in enumerate(map(finder.find, a)) if hit is not None]
    taken: dict[int, int] = {}  # position in B -> in A
    for _, mine, theirs in sorted(hits):
        taken.setdefault(theirs, mine)
    if not taken:
        raise StoreError(
            f"the stores have no class in common: expected some names that both lists have, got {a[0]!r} and "
            f"{len(a) - 1} more against {b[0]!r} and {len(b) - 1} more"
        )
    position_a, position_b = np.array(sorted((mine, theirs) for theirs, mine in taken.items()), np.int64).T
    return position_a, position_b


def _match_clips(a: StoreReader, b: StoreReader) -> tuple[np.ndarray, dict[str, Any]]:
    """(clips, 2) rows in `index.clips` of A and of B, and the counts of a `Comparison`."""
    in_b = positions_of(a.index.clips["clip_id"].combine_chunks(), b.index.clips)  # (clips of A,)
    pairs = np.stack([np.flatnonzero(in_b >= 0), in_b[in_b >= 0]], axis=1)
    ours, theirs = (store.index.clips.take(rows) for store, rows in zip((a, b), pairs.T, strict=True))
    same = ~clip_differences(ClipIdentity.of_table(ours), ClipIdentity.of_table(theirs))["sha256"]  # times are compared
    if not same.any():
        raise StoreError(
            f"'{a.storage}' and '{b.storage}': expected clips with the same clip_id and audio in both, got "
            f"{len(pairs)} with the same clip_id, {int((~same).sum())} of them with other audio; label one manifest "
            "with both teachers"
        )
    only = {"clips_only_a": len(in_b) - len(pairs), "clips_only_b": len(b.index.clips) - len(pairs)}
    return pairs[same], {"clips": int(same.sum()), **only, "clips_other_audio": int((~same).sum())}


def _match_windows(a: StoreReader, b: StoreReader, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Index entries of A and of B, (windows,) each in A's order, and how many labelled windows of A meet none."""
    entry_a, time_a = _labelled_centres(a, pairs[:, 0])
    entry_b, time_b = _labelled_centres(b, pairs[:, 1])
    order = np.argsort(time_b, kind="stable")
    entry_b, time_b = entry_b[order], time_b[order]
    for store, times in ((a, time_a), (b, time_b)):
        if not len(times):
            raise StoreError(
                f"'{store.storage}': no clip that both stores have is labelled in it; `softlabels run` labels them"
            )
    window_a_s, window_b_s = a.spec.window.window_s, b.spec.window.window_s
    met = meet(time_a, time_b, window_a_s=window_a_s, window_b_s=window_b_s)
    meets = met >= 0
    if not meets.any():
        raise StoreError(
            f"'{a.storage}' and '{b.storage}': no two windows share half of {min(window_a_s, window_b_s):g} s of the "
            "same clip"
        )
    return entry_a[meets], entry_b[met[meets]], int((~meets).sum())


def _labelled_centres(store: StoreReader, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labelled entries of some clips, and clip (its place among them) and centre of each as one number, int64."""
    index = store.index
    place = np.full(len(index.clips), -1, np.int64)
    place[clips] = np.arange(len(clips))
    of_entry = place[index.stored_clip]
    entries = np.flatnonzero((of_entry >= 0) & (index.state == LABELLED))
    return entries, places(of_entry[entries], store.spec.window.centre_us(index.start[entries]))


def _probabilities(
    a: StoreReader, b: StoreReader, entry_a: np.ndarray, entry_b: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(n,) matches, and the probabilities of each: (n, classes of A), (n, classes of B). One shard of A at a time."""
    held = lru_cache(maxsize=SHARDS_HELD)(b.read_shard)
    shards, matches = places_by_value(a.index.shard[entry_a])
    read = in_threads(a.read_shard, ((shard,) for shard in shards.tolist()))
    for here, rows in zip(matches, read, strict=True):
        for block in np.split(here, range(BLOCK, len(here), BLOCK)):
            q, there = np.empty((len(block), len(b.classes)), np.float32), entry_b[block]
            for shard, places_of in zip(*places_by_value(b.index.shard[there]), strict=True):
                q[places_of] = held(int(shard)).probabilities[b.index.row[there[places_of]]]
            yield block, rows.probabilities[a.index.row[entry_a[block]]], q


class _Sums:
    """Running sums over windows.

    sums: (8, classes) float64: of the probabilities p, q in A and B, their log-odds x, y, and of xx, yy, xy and KL.
    heard: windows x classes, by both, by A only, by B only; most: heap of (kl, -match, top of A, p, top of B, q).
    """

    def __init__(self, width: int) -> None:
        self.sums, self.heard = np.zeros((8, width)), np.zeros(3, np.int64)
        self.windows = self.same_top = 0
        self.most: list[tuple] = []

    def add(self, matches: np.ndarray, p: np.ndarray, q: np.ndarray) -> None:
        """matches: (n,) their numbers; p, q: (n, classes) probabilities of A and B."""
        p, x = _held_in(p)
        q, y = _held_in(q)
        kl = np.maximum(p * (x - y) + np.logaddexp(0, y) - np.logaddexp(0, x), 0)  # (n, classes)
        self.sums += [values.sum(axis=0) for values in (p, q, x, y, x * x, y * y, x * y, kl)]
        top_a, top_b = p.argmax(axis=1), q.argmax(axis=1)
        self.windows += len(matches)
        self.same_top += int((top_a == top_b).sum())
        in_a, in_b = p >= HEARD, q >= HEARD
        self.heard += [(in_a & in_b).sum(), (in_a & ~in_b).sum(), (in_b & ~in_a).sum()]
        n = np.arange(len(matches))
        columns = (kl.sum(axis=1), -matches, top_a, p[n, top_a], top_b, q[n, top_b])
        for found in zip(*(column.tolist() for column in columns), strict=True):
            (heapq.heappush if len(self.most) < MOST_DIFFERENT else heapq.heappushpop)(self.most, found)

    def classes(self, names_a: list[str], names_b: list[str]) -> tuple[ClassComparison, ...]:
        """Worst first."""
        n, sum_x, sum_y = self.windows, self.sums[2], self.sums[3]
        mean_a, mean_b, x, y, xx, yy, xy, kl = self.sums / n
        var_x, var_y = xx - x**2, yy - y**2
        varies = (var_x > 1e-9) & (var_y > 1e-9)
        r = np.clip((xy - sum_x * sum_y / n**2) / np.sqrt(np.where(varies, var_x * var_y, 1)), -1, 1)
        return tuple(
            ClassComparison(
                name=names_a[i],
                name_b=names_b[i],
                mean_a=float(mean_a[i]),
                mean_b=float(mean_b[i]),
                correlation=float(r[i]) if varies[i] else None,
                kl=float(kl[i]),
            )
            for i in np.argsort(-kl, kind="stable").tolist()
        )


def _held_in(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float64 probabilities away from 0 and 1, and their log-odds."""
    p = np.clip(probabilities.astype(np.float64), _LEAST, _MOST)
    return p, np.log(p) - np.log1p(-p)


def _most_different(
    found: list[tuple], *sides: tuple[StoreReader, np.ndarray, list[str]]
) -> Iterator[WindowDifference]:
    (a, entry_a, names_a), (b, entry_b, names_b) = sides
    for kl, match, top_a, probability_a, top_b, probability_b in sorted(found, reverse=True):
        here, there = entry_a[-match], entry_b[-match]
        yield WindowDifference(
            kl=kl,
            clip_id=a.index.clips["clip_id"][int(a.index.stored_clip[here])].as_py(),
            start_a_s=float(a.index.start_s(here)),
            start_b_s=float(b.index.start_s(there)),
            class_a=names_a[top_a],
            probability_a=probability_a,
            class_b=names_b[top_b],
            probability_b=probability_b,
        )
