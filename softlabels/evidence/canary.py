"""Do the teacher's probabilities belong to these rows and classes? A canary for wrong joins.

Arithmetic on two arrays; `join` decides what to do about the verdict. "aligned" takes evidence, and so does
"misaligned" (`contradictions`). Two measures, mean probability and mean log-odds, share a permutation test (the larger
in standard deviations counts): one shows a teacher that is sure now and then, the other one that never is. Ties count
against the join, so the same probabilities everywhere never pass. Classes are permuted among those that rows of any one
class raise; which these are, no permutation changes. All weigh the same, so neither a favourite of the teacher nor a
dominant class decides. Windows of one clip resemble each other: with `groups`, those with equal labels count as one.
"""

from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial
from typing import Literal

import numpy as np

from softlabels.evidence.agreement import check_halves, row_blocks
from softlabels.evidence.contradictions import Answers, confident_answers, exchanged_classes, neighbour_fits_better
from softlabels.odds import log_odds

PERMUTATIONS = 999
SIGNIFICANT = 0.01
_MOST_ROWS = 20_000
_MOST_CLASSES = 200  # the most annotated ones; bounds memory at 6,522 classes
_ROWS_A_CLASS = 20
_GROUPS_A_CLASS = 10  # 10 against 10 can be dealt out in 184,756 ways, plenty for p < 0.01
_CLASSES, _KNOWN = 6, 4.0  # fewer could hardly reach p < 0.01; known is what some label raises by 4 standard errors

Verdict = Literal["aligned", "not convinced", "misaligned", "not testable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What the canary saw.

    verdict: "misaligned" is a wrong join; "not convinced" may be one, or a teacher that knows little of these classes.
    mean_probability: of the annotated classes, as joined; None where nothing is annotated.
    mean_rows_permuted, mean_classes_permuted: the same after permuting. p_rows, p_classes: how often a permutation
    does as well. All four None where not tested.
    rows, classes: annotated ones that were used. groups: how many independent stretches the rows were counted as.
    swapped: pairs of class positions that look exchanged. findings: what is wrong or missing, in words.
    contradicted: rows with a confident answer that contradicts the label, the most confident ones, up to five.
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
    answers: Answers | None = None
    findings: tuple[str, ...] = ()
    contradicted: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.rows} annotated rows in {self.groups} stretches, {self.classes} classes"]
        if self.mean_probability is not None:
            mean = f"mean probability of the annotated classes {self.mean_probability:.3g}"
            rows = f"rows permuted {self.mean_rows_permuted or 0:.3g}, p = {self.p_rows or 0:.3g}"
            classes = f"classes permuted {self.mean_classes_permuted or 0:.3g}, p = {self.p_classes or 0:.3g}"
            needed = f"it takes two classes with {_ROWS_A_CLASS} rows and {_GROUPS_A_CLASS} stretches each"
            classes = "class axis not testable" if self.p_classes is None else classes
            tested = [rows, classes, str(self.answers), *parts, *self.findings]
            parts = [mean, *([*parts, needed] if self.p_rows is None else tested)]
        return f"alignment: {self.verdict} ({'; '.join(parts)})"


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
    canary, measures, labelled, tested, classes, rows = _looked_at(soft, hard, groups, rng)
    if len(tested) < 2:
        return canary
    by_rows = _rows_permuted(measures, labelled, rng)
    p_rows = _p_value(by_rows)
    p_classes, mean_classes = _test_classes(measures, labelled, tested, rng)
    answers = confident_answers(measures[0], labelled, np.asarray(hard[rows[:, None], classes]) == 0, rng)
    swapped = [(int(classes[a]), int(classes[b])) for a, b in exchanged_classes(measures[1], labelled, tested)]
    chance = p_rows >= SIGNIFICANT
    against = {
        **{f"classes {a} and {b} look exchanged": True for a, b in swapped[:10]},
        "the labels of the row before or after fit better": neighbour_fits_better(measures[1], labelled),
        "confident answers are right as often as on permuted rows": chance and answers.hopeless,
    }
    short = {
        "permuted rows do as well": chance and not answers.hopeless,
        "other orders of the classes do as well": p_classes is not None and p_classes >= SIGNIFICANT,
        "too many confident answers contradict the labels": answers.doubtful,
    }
    return replace(
        canary,
        verdict="misaligned" if any(against.values()) else "not convinced" if any(short.values()) else "aligned",
        mean_rows_permuted=float(by_rows[1:, 0].mean()),
        mean_classes_permuted=mean_classes,
        p_rows=p_rows,
        p_classes=p_classes,
        swapped=tuple(swapped),
        answers=answers,
        findings=tuple(text for text, found in {**against, **short}.items() if found),
        contradicted=tuple(rows[list(answers.worst)].tolist()),
    )


def _looked_at(soft: np.ndarray, hard: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator) -> tuple:
    """The canary without a verdict; measures, labelled (stretches, classes); tested; classes; a row a stretch."""
    row, column = _annotated(soft, hard, rng)
    classes, counts = np.unique(column, return_counts=True)
    classes = np.sort(classes[np.argsort(-counts, kind="stable")[:_MOST_CLASSES]])
    kept = np.isin(column, classes)
    row, column = row[kept], np.searchsorted(classes, column[kept])
    used, first = np.unique(row, return_index=True)  # (used,) rows with an annotated class
    starts = _stretch_starts(used, column, first, groups, rng)
    labelled = np.zeros((len(starts), len(classes)), bool)
    labelled[np.searchsorted(starts, np.searchsorted(used, row), side="right") - 1, column] = True
    needed = labelled.sum(axis=0) >= (1 if groups is None else _GROUPS_A_CLASS)
    tested = np.flatnonzero(needed & (np.bincount(column, minlength=len(classes)) >= _ROWS_A_CLASS))
    measures = _measures(soft, used, classes, starts)  # probability and log-odds
    mean = float(measures[0][labelled].mean(dtype=np.float64)) if len(used) else None
    canary = Canary(mean_probability=mean, rows=len(used), groups=len(starts), classes=len(classes))
    return canary, measures, labelled, tested, classes, used[starts]


def _annotated(soft: np.ndarray, hard: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(2, entries) row and class of what is annotated as 1 and known to the teacher, in order."""
    rows, found = np.arange(len(soft)), [np.empty((2, 0), np.int64)]
    if len(rows) > _MOST_ROWS:  # drawn, not every n-th: a clip may have n windows, the classes a period of n
        rows = ((np.arange(_MOST_ROWS) + rng.random(_MOST_ROWS)) * (len(rows) / _MOST_ROWS)).astype(np.int64)
    for block in row_blocks(len(rows), soft.shape[1]):
        row, column = np.nonzero(np.asarray(hard[rows[block]]) == 1)
        row = rows[block][row]
        found.append(np.stack([row, column])[:, ~np.isnan(soft[row, column])])
    return np.concatenate(found, axis=1)


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


def _rows_permuted(measures: list[np.ndarray], labelled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(1 + permutations, measures) mean over the annotated entries: as joined, then with stretches permuted."""
    stretch, at = np.nonzero(labelled)
    means = np.empty((1 + PERMUTATIONS, len(measures)))
    order = np.arange(len(labelled))
    for trial in means:
        place = order[stretch] * labelled.shape[1] + at
        trial[:] = [each.take(place).mean(dtype=np.float64) for each in measures]
        order = rng.permutation(len(labelled))
    return means


def _test_classes(
    measures: list[np.ndarray], labelled: np.ndarray, tested: np.ndarray, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """p of the order of the classes that the teacher knows, and the mean probability with these permuted."""
    means = np.stack([[each[labelled[:, c]].mean(axis=0, dtype=np.float64) for c in tested] for each in measures])
    centre, spread = (np.stack([of(each, axis=0) for each in measures])[:, None] for of in (np.mean, np.std))
    sizes = labelled[:, tested].sum(axis=0)
    rise = ((means - centre) / (spread + 1e-9))[:, :, tested] * np.sqrt(sizes)[:, None]  # (measures, label, class)
    known = np.flatnonzero(rise.max(axis=(0, 1)) > _KNOWN)
    count, means = len(known), means[:, known[:, None], tested[known]]
    if count < _CLASSES:
        return None, None
    few = factorial(count) <= 5_040  # either way, the first is the order as it is
    drawn = (rng.permutation(count) for _ in range(PERMUTATIONS))
    orders = np.array(list(permutations(range(count))) if few else [np.arange(count), *drawn])
    traces = means[:, np.arange(count), orders].mean(axis=2).T  # (orders, measures)
    return _p_value(traces), float(np.average(means[0].mean(axis=1), weights=sizes[known]))


def _p_value(means: np.ndarray) -> float:
    """(trials, measures), the first as joined -> the share of trials in which the larger measure is as large."""
    spread = np.maximum(means.std(axis=0), 1e-9 * np.abs(means).max(axis=0) + 1e-30)  # less is rounding: a tie
    strongest = ((means - means.mean(axis=0)) / spread).max(axis=1)
    return float((strongest >= strongest[0] - 1e-6).mean())
