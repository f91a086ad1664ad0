"""Do the teacher's probabilities belong to these rows and classes? A canary for wrong joins.

The teacher's probability of the annotated class, as joined, is held against the same with rows permuted and with
the class axis permuted. What lives here is arithmetic on two arrays; `join` decides what to do about the verdict.

The choices, and why:
- Two measures, mean probability and mean log-odds, share one permutation test (the larger of the two in standard
  deviations counts): probability shows a teacher that is sure now and then, log-odds one that is never sure.
- Ties count against the join, so a teacher with the same probabilities everywhere never passes.
- Classes are permuted among the annotated ones and weigh the same. Any permutation then has the same sum of class
  biases, so neither a favourite of the teacher nor a dominant class decides. Below six classes the test is left out:
  it could hardly reach p < 0.01, and a class or two that the teacher never scores would be an alarm.
- Both tests pass when most classes are right. So each pair of classes is looked at too: an error if the teacher would
  be clearly better, by t > 6 and 0.2 of probability, with the two exchanged.
- Windows of one clip resemble each other; counted as independent they would let a wrong clip table pass by chance.
  With `groups`, rows of one clip with equal labels count as one.
What it cannot see: a shift within stretches of equal labels, and exchanged classes of which the teacher knows nothing.
"""

from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial
from typing import Literal

import numpy as np

from softlabels.evidence.agreement import check_halves, row_blocks
from softlabels.odds import log_odds

PERMUTATIONS = 999
SIGNIFICANT = 0.01
_MOST_ROWS = 20_000
_MOST_STRETCHES = 10_000  # to permute: half a second's work and far more than a right join needs
_MOST_CLASSES = 200  # the most annotated ones; bounds memory at 6,522 classes
_ROWS_A_CLASS = 20
_GROUPS_A_CLASS = 10  # 10 against 10 can be dealt out in 184,756 ways, plenty for p < 0.01
_CLASSES = 6
_SWAP_T = 6.0  # of 19,900 pairs of 200 classes fewer than 0.01 get there by chance with 20 rows each
_SWAP_PROBABILITY = 0.2

Verdict = Literal["aligned", "misaligned", "not testable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What the canary saw.

    verdict: "misaligned" is a wrong join, or a teacher that knows nothing of these classes.
    mean_probability: of the annotated classes, as joined; None where nothing is annotated.
    mean_rows_permuted, mean_classes_permuted: the same after permuting. p_rows, p_classes: how often a permutation
    does as well. All four None where not tested.
    rows, classes: annotated ones that were used. groups: how many independent stretches the rows were counted as.
    swapped: pairs of class positions that look exchanged for each other.
    """

    verdict: Verdict = "not testable"
    mean_probability: float | None
    mean_rows_permuted: float | None = None
    mean_classes_permuted: float | None = None
    p_rows: float | None = None
    p_classes: float | None = None
    rows: int
    groups: int
    classes: int
    swapped: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        used = f"{self.rows} annotated rows in {self.groups} stretches, {self.classes} classes"
        if self.mean_probability is None:
            return f"alignment: {self.verdict} ({used})"
        means = f"mean probability of the annotated classes {self.mean_probability:.3g}"
        if self.p_rows is None:
            needed = f"two classes with {_ROWS_A_CLASS} rows and {_GROUPS_A_CLASS} stretches each"
            return f"alignment: {self.verdict} ({means}; {used}; it takes {needed})"
        rows = f"rows permuted {self.mean_rows_permuted:.3g}, p = {self.p_rows:.3g}"
        classes = "class axis not testable"
        if self.p_classes is not None:
            classes = f"classes permuted {self.mean_classes_permuted:.3g}, p = {self.p_classes:.3g}"
        swapped = "".join(f"; classes {a} and {b} look exchanged" for a, b in self.swapped[:10])
        return f"alignment: {self.verdict} ({means}; {rows}; {classes}; {used}{swapped})"


def alignment_canary(soft: np.ndarray, hard: np.ndarray, *, groups: np.ndarray | None = None, seed: int = 0) -> Canary:
    """Whether the teacher's probabilities belong to the rows and classes that people annotated.

    Of more than 20,000 rows, one out of each of 20,000 equal stretches is looked at; at most the 200 most annotated
    classes are used. Testable when two classes have 20 annotated rows each (and, with `groups`, ten stretches).

    Args:
      soft: (rows, classes) float32 teacher probabilities; NaN where unknown.
      hard: (rows, classes) float32: 1 annotated, 0 annotated as absent, NaN unknown.
      groups: (rows,) int, the clip of each row, rows of a clip together; None takes rows as independent.
      seed: of the permutations.
    Returns: the verdict with its figures.
    """
    check_halves(soft, hard, groups)
    rng = np.random.default_rng(seed)
    row, column = _annotated(soft, hard, _sample(len(soft), _MOST_ROWS, rng))
    classes = _most_annotated(column)
    kept = np.isin(column, classes)
    row, column = row[kept], np.searchsorted(classes, column[kept])
    used, first = np.unique(row, return_index=True)  # (used,) rows with an annotated class
    starts = _stretch_starts(used, column, first, groups, rng)
    stretch = np.searchsorted(starts, np.searchsorted(used, row), side="right") - 1  # (entries,)
    entries = np.unique(stretch * max(len(classes), 1) + column)
    stretch, at = np.divmod(entries, max(len(classes), 1))
    needed = np.bincount(at, minlength=len(classes)) >= (1 if groups is None else _GROUPS_A_CLASS)
    tested = np.flatnonzero(needed & (np.bincount(column, minlength=len(classes)) >= _ROWS_A_CLASS))
    measures = _measures(soft, used, classes, starts)  # probability and log-odds, (stretches, classes) each
    mean = float(measures[0][stretch, at].mean(dtype=np.float64)) if len(at) else None
    canary = Canary(mean_probability=mean, rows=len(used), groups=len(starts), classes=len(classes))
    if len(tested) < 2:
        return canary
    by_rows = _rows_permuted(measures, stretch, at, rng)
    p_classes, mean_classes = _test_classes(measures, stretch, at, tested, rng)
    swapped = _swapped(measures[0], stretch, at, tested)
    p_rows = _p_value(by_rows)
    fine = p_rows < SIGNIFICANT and (p_classes is None or p_classes < SIGNIFICANT) and not swapped
    return replace(
        canary,
        verdict="aligned" if fine else "misaligned",
        mean_rows_permuted=float(by_rows[1:, 0].mean()),
        mean_classes_permuted=mean_classes,
        p_rows=p_rows,
        p_classes=p_classes,
        swapped=tuple((int(classes[a]), int(classes[b])) for a, b in swapped),
    )


def _sample(rows: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `most` rows in order. Drawn, not every n-th: a clip may have n windows, the classes a period of n."""
    if rows <= most:
        return np.arange(rows)
    return ((np.arange(most) + rng.random(most)) * (rows / most)).astype(np.int64)


def _annotated(soft: np.ndarray, hard: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(entries,) row and class of what is annotated as 1 and known to the teacher, in order."""
    found = [(rows[:0], rows[:0])]
    for block in row_blocks(len(rows), soft.shape[1]):
        row, column = np.nonzero(np.asarray(hard[rows[block]]) == 1)
        row = rows[block][row]
        known = ~np.isnan(soft[row, column])
        found.append((row[known], column[known]))
    return np.concatenate([row for row, _ in found]), np.concatenate([column for _, column in found])


def _most_annotated(column: np.ndarray) -> np.ndarray:
    """(classes,) the classes in use, at most 200, in order."""
    classes, counts = np.unique(column, return_counts=True)
    return np.sort(classes[np.argsort(-counts, kind="stable")[:_MOST_CLASSES]])


def _stretch_starts(
    used: np.ndarray, column: np.ndarray, first: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Where among the used rows a stretch begins: a run of rows of one clip with equal labels, or every row."""
    if groups is None or not len(used):
        return np.arange(len(used))
    # A row's labels as one number: the sum of a random number a class (Zobrist 1970).
    key = np.add.reduceat(rng.integers(2**62, size=column.max() + 1)[column], first)
    clip = np.asarray(groups)[used]
    return np.flatnonzero(np.r_[True, (clip[1:] != clip[:-1]) | (key[1:] != key[:-1])])


def _measures(soft: np.ndarray, used: np.ndarray, classes: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """Probability and log-odds, (stretches, classes) float32 each, averaged over the rows of a stretch."""
    p = np.asarray(soft[used[:, None], classes], np.float32)  # (used, classes)
    if not len(used):
        return [p, p]
    means = np.nanmean(p, axis=0, dtype=np.float64)
    p = np.where(np.isnan(p), means.astype(np.float32), p)  # no opinion
    rows = np.diff(starts, append=len(used))[:, None].astype(np.float32)
    return [np.add.reduceat(each, starts) / rows for each in (p, log_odds(p, least=1e-6))]


def _rows_permuted(
    measures: list[np.ndarray], stretch: np.ndarray, at: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(1 + permutations, measures) mean over the annotated entries: as joined, then with stretches permuted."""
    chosen = _sample(len(measures[0]), _MOST_STRETCHES, rng)
    kept = np.isin(stretch, chosen)
    stretch, at = np.searchsorted(chosen, stretch[kept]), at[kept]
    values = [each[chosen].ravel() for each in measures]
    means = np.empty((1 + PERMUTATIONS, len(measures)))
    order = np.arange(len(chosen))
    for trial in means:
        place = order[stretch] * measures[0].shape[1] + at
        trial[:] = [each.take(place).mean(dtype=np.float64) for each in values]
        order = rng.permutation(len(chosen))
    return means


def _test_classes(
    measures: list[np.ndarray], stretch: np.ndarray, at: np.ndarray, tested: np.ndarray, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """p of the order of the tested classes, and the mean probability with the classes permuted."""
    count = len(tested)
    if count < _CLASSES:
        return None, None
    members = [stretch[at == c] for c in tested]
    means = np.array([[each[m][:, tested].mean(axis=0, dtype=np.float64) for m in members] for each in measures])
    if factorial(count) <= 5_040:
        orders = np.array(list(permutations(range(count))))  # the first is the order as it is
    else:
        orders = np.array([np.arange(count), *(rng.permutation(count) for _ in range(PERMUTATIONS))])
    traces = means[:, np.arange(count), orders].mean(axis=2).T  # (orders, measures)
    sizes = np.array([len(m) for m in members])
    return _p_value(traces), float((means[0].mean(axis=1) * sizes).sum() / sizes.sum())


def _p_value(means: np.ndarray) -> float:
    """(trials, measures), the first as joined -> the share of trials in which the larger measure is as large."""
    spread = np.maximum(means.std(axis=0), 1e-9 * np.abs(means).max(axis=0) + 1e-30)  # less is rounding: a tie
    strongest = ((means - means.mean(axis=0)) / spread).max(axis=1)
    return float((strongest >= strongest[0] - 1e-6).mean())


def _swapped(probability: np.ndarray, stretch: np.ndarray, at: np.ndarray, tested: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of tested classes that the teacher tells apart the wrong way round (Welch's t of own minus other)."""
    lead, noise = np.empty((2, len(tested), len(tested)))
    for i, c in enumerate(tested):
        p = probability[stretch[at == c]]
        gap = p[:, [c]] - p[:, tested]  # (stretches of c, tested)
        lead[i] = gap.mean(axis=0)
        noise[i] = gap.var(axis=0, ddof=1) / len(gap)
    lead, noise = lead + lead.T, noise + noise.T
    wrong = (lead < -_SWAP_PROBABILITY) & (lead < -_SWAP_T * np.sqrt(noise))
    return [(int(tested[a]), int(tested[b])) for a, b in np.argwhere(np.triu(wrong, 1))]
