"""Joins with a known truth, right and wrong, for the alignment canary: each case is seed -> (soft, hard, groups)."""

from collections.abc import Callable

import numpy as np

Case = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def sigmoid(odds: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def softmax(odds: np.ndarray) -> np.ndarray:
    powers = np.exp(odds - odds.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def one_label(rng: np.random.Generator, rows: int, classes: int, share: list[float] | None = None) -> np.ndarray:
    """(rows, classes) float32: one annotated class a row, all equally frequent or as said."""
    label = rng.permutation(np.arange(rows) % classes) if share is None else rng.choice(classes, rows, p=share)
    return np.eye(classes, dtype=np.float32)[label]


def odds_of(rng: np.random.Generator, hard: np.ndarray, *, heard: float = 0.7, gain: float = 7) -> np.ndarray:
    """Log-odds of a teacher that is quiet, and raises the annotated class in a part of the rows."""
    return rng.normal(-5, 1.5, hard.shape) + gain * hard * (rng.random((len(hard), 1)) < heard)


def strong(seed: int, rows: int = 400, classes: int = 8) -> Case:
    rng = np.random.default_rng(seed)
    hard = one_label(rng, rows, classes)
    return sigmoid(odds_of(rng, hard)), hard, None


def knows(known: int, classes: int, *, rest: str = "quiet", rows: int = 400) -> Callable[[int], Case]:
    """A teacher that knows the first classes; rows of the others leave it quiet, or it takes them for any it knows."""

    def case(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        hard = one_label(rng, rows, classes)
        taken = hard.copy()
        taken[:, known:] = 0
        if rest == "taken":
            others = np.flatnonzero(taken.sum(axis=1) == 0)
            taken[others, rng.integers(known, size=len(others))] = rng.random(len(others)) < 0.4
        return sigmoid(odds_of(rng, taken)), hard, None

    return case


def weak(kind: str, classes: int, rows: int = 60) -> Callable[[int], Case]:
    """Teachers that are better than chance, and no more."""

    def case(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        hard = one_label(rng, rows, classes)
        noise = rng.normal(0, 1, hard.shape)
        soft = {
            "seldom": lambda: sigmoid(odds_of(rng, hard, heard=0.15)),
            "faint": lambda: np.exp(np.minimum(3 * noise - 12 + 2.2 * hard, -2)).astype(np.float32),
            "noisy": lambda: sigmoid(2 * noise + hard),
            "undecided": lambda: sigmoid(noise + 0.5 * hard),
            "overconfident": lambda: softmax(4 * noise + 3 * hard),
        }[kind]()
        return soft, hard, None

    return case


def drifting(seed: int) -> Case:
    """A weak teacher whose noise drifts along the rows, and labels that come in runs of twenty."""
    rng = np.random.default_rng(seed)
    hard = np.eye(4, dtype=np.float32)[rng.integers(4, size=30).repeat(20)]
    odds = rng.normal(0, 1, hard.shape)
    for i in range(1, len(odds)):
        odds[i] = 0.95 * odds[i - 1] + 0.3 * odds[i]
    return sigmoid(2 * odds - 3 + 1.5 * hard), hard, None


def skewed(classes: int, rows: int, heard: float = 0.7) -> Callable[[int], Case]:
    """The rarest class a hundred times rarer than the commonest."""
    share = np.geomspace(100, 1, classes)

    def case(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        hard = one_label(rng, rows, classes, list(share / share.sum()))
        return sigmoid(odds_of(rng, hard, heard=heard)), hard, None

    return case


def several_labels(seed: int, rows: int = 400, classes: int = 8) -> Case:
    """One to three labels a row, some of which come together."""
    rng = np.random.default_rng(seed)
    hard = one_label(rng, rows, classes)
    for _ in range(2):
        hard = np.maximum(hard, one_label(rng, rows, classes) * (rng.random((rows, 1)) < 0.4))
    hard[:, 1] = np.maximum(hard[:, 1], hard[:, 0] * (rng.random(rows) < 0.8))
    odds = rng.normal(-5, 1.5, hard.shape) + 7 * hard * (rng.random(hard.shape) < 0.6)
    return sigmoid(odds), hard, None


def windows_of_clips(seed: int, clips: int = 60, windows: int = 10, classes: int = 4) -> Case:
    """Weak labels: windows share the label and the noise of their clip, and its class sounds in half of them."""
    rng = np.random.default_rng(seed)
    clip = np.repeat(np.arange(clips), windows)
    label = one_label(rng, clips, classes)
    odds = rng.normal(-5, 1.5, label.shape)[clip] + rng.normal(0, 0.5, (len(clip), classes))
    odds += 7 * label[clip] * (rng.random((len(clip), 1)) < 0.5)
    return sigmoid(odds), label[clip], clip


def favourite(height: float) -> Callable[[int], Case]:
    """Whatever sounds, the teacher also says class 1."""

    def case(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        hard = one_label(rng, 400, 8)
        odds = odds_of(rng, hard)
        odds[:, 1] += height
        return sigmoid(odds), hard, None

    return case


def confuses(seed: int) -> Case:
    """Class 0 is taken for class 1, more surely than class 1 itself is found; 4 and 5 for each other now and then."""
    rng = np.random.default_rng(seed)
    hard = one_label(rng, 800, 8)
    heard = hard.copy()
    heard[:, 1] += 1.15 * hard[:, 0]
    heard[:, 0] = 0.2 * hard[:, 0]
    turned = rng.random(800) < 0.25
    heard[turned, 4], heard[turned, 5] = hard[turned, 5], hard[turned, 4]
    return sigmoid(odds_of(rng, heard)), hard, None


def calibrated(seed: int) -> Case:
    """Its answers are right exactly as often as it says, and its errors fall on any class."""
    rng = np.random.default_rng(seed)
    odds = 3 * rng.normal(size=(400, 8))
    soft = softmax(odds)
    label = (soft.cumsum(axis=1) > rng.random((400, 1))).argmax(axis=1)
    return soft, np.eye(8, dtype=np.float32)[label], None


RIGHT: dict[str, Callable[[int], Case]] = {
    "strong": strong,
    **{f"knows {k} of {n}": knows(k, n) for k in (1, 2) for n in (6, 10)},
    **{f"knows {k} of {n}, takes the rest for it": knows(k, n, rest="taken") for k in (1, 2) for n in (6, 10)},
    **{f"{kind}, {n} classes, 60 rows": weak(kind, n) for n in (2, 3) for kind in ("seldom", "faint", "noisy")},
    **{f"{kind}, {n} classes, 60 rows": weak(kind, n) for n in (2, 3) for kind in ("undecided", "overconfident")},
    **{f"{kind}, 5 classes, 200 rows": weak(kind, 5, 200) for kind in ("noisy", "overconfident")},
    "counts 1:100, 2 classes": skewed(2, 3000),
    "counts 1:100, 6 classes": skewed(6, 2000),
    "counts 1:100, 4 classes, weak": skewed(4, 800, heard=0.15),
    "drifts, 600 rows": drifting,
    "several labels": several_labels,
    "windows of clips": windows_of_clips,
    **{f"a favourite, {height} higher": favourite(height) for height in (4, 9)},
    "confuses": confuses,
    "calibrated": calibrated,
}


def spoiled(
    case: Callable[[int], Case], how: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> Callable[[int], Case]:
    """The case with another soft half."""

    def wrong(seed: int) -> Case:
        soft, hard, groups = case(seed)
        return how(soft, np.random.default_rng(seed + 10_000)), hard, groups

    return wrong


def permuted(share: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """A share of the rows dealt out among themselves."""

    def change(soft: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows = rng.permutation(len(soft))[: round(share * len(soft))]
        soft = soft.copy()
        soft[rows] = soft[rng.permutation(rows)]
        return soft

    return change


def shifted_stretches(soft: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Off by one in four stretches of a tenth of the rows each."""
    soft, tenth = soft.copy(), len(soft) // 10
    for first in rng.choice(10, 4, replace=False) * tenth:
        soft[first : first + tenth] = np.roll(soft[first : first + tenth], 1, axis=0)
    return soft


WRONG_ALL: dict[str, Callable[[int], Case]] = {
    f"{name}, {classes} classes, {rows} rows": spoiled(lambda seed, r=rows, n=classes: strong(seed, r, n), how)
    for classes, rows in ((8, 400), (5, 400), (20, 600))
    for name, how in {
        "all permuted": permuted(1),
        "rows off by one": lambda soft, rng: np.roll(soft, 1, axis=0),
        "classes off by one": lambda soft, rng: np.roll(soft, 1, axis=1),
        "classes reversed": lambda soft, rng: soft[:, ::-1],
        "two classes exchanged": lambda soft, rng: soft[:, [1, 0, *range(2, soft.shape[1])]],
    }.items()
}
WRONG_IN_PART: dict[str, Callable[[int], Case]] = {
    **{
        f"{share:.0%} permuted, {n} classes, {rows} rows": spoiled(
            lambda seed, r=rows, n=n: strong(seed, r, n), permuted(share)
        )
        for share in (0.3, 0.6, 0.95)
        for n, rows in ((8, 400), (5, 400), (2, 400), (20, 600))
    },
    "off by one in 4 of 10 stretches": spoiled(strong, shifted_stretches),
}
WRONG_WEAK: dict[str, Callable[[int], Case]] = {
    **{
        f"{kind}, permuted, {n} classes, {rows} rows": spoiled(weak(kind, n, rows), permuted(1))
        for kind in ("seldom", "faint", "noisy", "undecided", "overconfident")
        for n, rows in ((3, 60), (5, 400))
    },
    "knows 2 of 10, classes off by one": spoiled(knows(2, 10), lambda soft, rng: np.roll(soft, 1, axis=1)),
    "knows 2 of 10, permuted": spoiled(knows(2, 10), permuted(1)),
}
