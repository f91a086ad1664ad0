"""What speaks against a join as it stands: a class, or a row, whose labels fit another; confident answers gone wrong.

A part of the canary. One line of each array is a stretch of rows with equal labels: p and odds are the teacher's
probabilities and log-odds, labelled and absent say which classes people annotated as 1 and as 0.
"""

from dataclasses import dataclass

import numpy as np

CLEAR = 6.0  # standard errors; of 19,900 pairs of 200 classes fewer than 0.01 get there by chance with 20 rows each
_EACH, _LEAST = 3.0, 1.0  # standard errors of both halves of a sum that is clear, and the log-odds it takes
_SURE = 0.8  # probability of an answer that counts as confident
_KEPT = 0.75  # of what permuted rows would contradict; the rest may be classes that this teacher confuses
_TOLERATED = 0.1  # of the rows; good teachers and good annotators differ as often
_ERRORS = 2.0  # standard errors that a doubt takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Confident answers held against the labels.

    count: answers above 0.8 where people said yes or no; right: what they confirm; claimed: what they would confirm if
    the teacher's probabilities were true. permuted: the share of permuted rows that would give as many contradictions,
    and its 95 % interval; None without enough answers, or where one class gives nearly all: it is confused.
    doubtful: more than a tenth of permuted rows and the teacher's own doubts explain, or half of what is claimed beyond
    chance is not true; hopeless: four fifths are not, of what is left when no class may claim more than its rows.
    worst: stretches of the most confident contradictions, up to five.
    """

    count: int
    right: int
    claimed: float
    permuted: tuple[float, ...] | None
    doubtful: bool
    hopeless: bool
    worst: tuple[int, ...]

    def __str__(self) -> str:
        if not self.count:
            return f"no answer above {_SURE}"
        wrong, allowed = (1 - right / self.count for right in (self.right, self.claimed))
        share = ", as if {:.0%} ({:.0%} to {:.0%}) of the rows were permuted".format(*self.permuted or [0] * 3)
        text = f"of {self.count} answers above {_SURE}, {wrong:.0%} contradict the labels ({allowed:.0%} allowed)"
        return text + share * (self.permuted is not None)


def confident_answers(p: np.ndarray, labelled: np.ndarray, absent: np.ndarray, rng: np.random.Generator) -> Answers:
    """Hold confident answers against the labels.

    Of a class as many count as rows are annotated with it, so a favourite of the teacher does not decide. Teachers
    confuse certain classes, permuted rows all of them alike: the share is estimated without the quarter of (answer,
    label) that contradicts most in the other half of the data.
    """
    answer = _answers(p, labelled, absent, rng)
    annotated, known = labelled.sum(axis=0), np.maximum((labelled | absent).sum(axis=0), 1)
    sure = np.where(answer, p, 0)
    against, label = answer & absent, labelled / labelled.sum(axis=1, keepdims=True, dtype=np.float32)
    chance = (absent.T.astype(np.float32) @ label) / known[:, None]  # (answer, label) of one permuted answer
    doubt = chance / np.maximum(chance.sum(axis=1, keepdims=True), 1e-12)
    half = rng.random(len(p)) < 0.5
    seen, chances, doubts = np.empty((3, 2, *chance.shape))
    for i, here in enumerate((half, ~half)):
        seen[i] = against[here].T.astype(np.float32) @ label[here]
        chances[i] = chance * answer[here].sum(axis=0)[:, None]
        doubts[i] = doubt * (answer[here].sum(axis=0) - sure[here].sum(axis=0))[:, None]
    totals = np.zeros(3)
    for i in (0, 1):
        mass = chances[1 - i].ravel()
        order = np.argsort((seen[1 - i].ravel() + 0.01) / (mass + 0.1), kind="stable")
        kept = order[np.cumsum(mass[order]) - mass[order] < _KEPT * mass.sum()]
        totals += [each[i].ravel()[kept].sum() for each in (seen, chances, doubts)]
    found, most, allowed = totals
    low, high = max(found**0.5 - _ERRORS / 2, 0) ** 2, ((found + 1) ** 0.5 + _ERRORS / 2) ** 2  # Poisson
    count, right = int(answer.sum()), int((answer & labelled).sum())
    enough = most >= 5 and count - answer.sum(axis=0).max() >= 5  # one class alone is confused, not permuted
    by_chance = (answer.sum(axis=0) * annotated / known).sum()
    credible = sure.sum(axis=0) * np.minimum(annotated / np.maximum(p.sum(axis=0), 1e-6), 1)
    more = low > max(_TOLERATED * most, allowed) or _below(right, count, by_chance, sure.sum(), 0.5)
    return Answers(
        count=count,
        right=right,
        claimed=float(sure.sum()),
        permuted=tuple(min(float(each / most), 1.0) for each in (found, low, high)) if enough else None,
        doubtful=bool(enough and more),
        hopeless=bool(enough and _below(right, count, by_chance, credible.sum(), 0.2, errors=3.09)),
        worst=tuple(dict.fromkeys(np.nonzero(against)[0][np.argsort(-p[against], kind="stable")[:5]].tolist())),
    )


def _below(right: int, count: int, by_chance: float, claimed: float, share: float, errors: float = _ERRORS) -> bool:
    """Whether clearly fewer are right than if this share of what is claimed beyond chance were true."""
    expected = by_chance + share * max(claimed - by_chance, 0)
    return right < expected - errors * (expected * (1 - expected / max(count, 1))) ** 0.5


def _answers(p: np.ndarray, labelled: np.ndarray, absent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(stretches, classes) bool: the confident answers that count; ties are broken at random, not by row."""
    answer = np.zeros(p.shape, bool)
    for c, most in enumerate(labelled.sum(axis=0)):
        rows = rng.permutation(np.flatnonzero((p[:, c] >= _SURE) & (labelled[:, c] | absent[:, c])))
        answer[rows[np.argsort(-p[rows, c], kind="stable")[:most]], c] = True
    return answer


def exchanged_classes(odds: np.ndarray, labelled: np.ndarray, tested: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of tested classes in each other's place, or following each other in a chain of such.

    A class is out of place where its rows raise another class above what that has on its own rows, and its own is
    raised in the same way by the rows of a third (or of that one). Either alone may be what the teacher confuses.
    """
    of, both = np.zeros((2, 3, len(tested), len(tested)))  # [:, c, d]: count, sum, squares of class d on rows of c
    centre = odds.mean(axis=0)[tested]
    for c, rows in enumerate(labelled[:, tested].T):  # both: on those that have d too
        v, also = odds[rows][:, tested] - centre, labelled[rows][:, tested]
        for i, power in enumerate((np.ones_like(v), v, v * v)):
            of[i, c], both[i, c] = (each.sum(axis=0, dtype=np.float64) for each in (power, power * also))
    up, noise = np.zeros((2, len(tested), len(tested)))  # of class d on rows of c, less that on its own
    for sign, sums in ((1, of - both), (-1, np.diagonal(of, axis1=1, axis2=2)[:, None] - both)):
        count = np.maximum(sums[0], 1)
        mean = sums[1] / count
        up += sign * mean
        error = np.maximum(sums[2] / count - mean**2, 1e-6) / np.maximum(count - 1, 1)
        noise += np.where(count < 10, np.inf, error)
    t, each = up / np.sqrt(noise), np.arange(len(tested))
    to, by = t.argmax(axis=1), t.argmax(axis=0)  # whom its rows raise; whose rows raise it
    rise, error = up[each, to] + up[by, each], noise[each, to] + noise[by, each]
    out = (np.minimum(t[each, to], t[by, each]) > _EACH) & (rise > np.maximum(CLEAR * np.sqrt(error), _LEAST))
    pairs = {(min(c, to[c]), max(c, to[c])) for c in each[out] if out[to[c]]}
    return sorted((int(tested[c]), int(tested[d])) for c, d in pairs)


def neighbour_fits_better(odds: np.ndarray, labelled: np.ndarray) -> bool:
    """Whether the labels of the row before, or of the row after, would fit all rows clearly better than their own."""
    odds, label = odds - odds.mean(axis=0), labelled / labelled.sum(axis=1, keepdims=True, dtype=np.float32)
    own = np.einsum("ij,ij->i", odds, label)
    before = np.einsum("ij,ij->i", odds[1:], label[:-1]) - own[1:]
    after = np.einsum("ij,ij->i", odds[:-1], label[1:]) - own[:-1]
    return any(gain.mean() > CLEAR * gain.std() / np.sqrt(len(gain)) for gain in (before, after))
