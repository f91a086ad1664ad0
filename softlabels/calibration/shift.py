"""How often does each class occur in the clips that nobody annotated? Not as often as in those that people chose.

A map fitted on annotated clips has their prevalences built in. Where people annotated as many clips of a rare class as
of a common one, it takes the rare one for common everywhere. If a class sounds the same in both kinds of clips, the
odds are off by one factor. The mean probability of the clips without annotations tells which: it lies between the means
of the annotated clips with and without the class, as far up as the class is frequent (Forman 2008, "adjusted count").

Expectation maximisation (Saerens, Latinne, Decaestecker 2002) was tried first. It takes probabilities at their word:
with the flat maps that few clips allow it "corrected" random samples, and made them worse.
"""

from dataclasses import dataclass

import numpy as np

MIN_ROWS = 50  # without annotations
ERRORS, CHANCE = 3.0, 1e-3  # standard errors that one class has to be apart; of a random sample that all seem to be


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prevalences:
    """Of each class, (columns,) float64 each; NaN where unknown.

    annotated: the share of the annotated examples; elsewhere: of those that nobody annotated; error: the standard error
    of their difference.
    """

    annotated: np.ndarray
    elsewhere: np.ndarray
    error: np.ndarray

    def log_odds_shift(self) -> np.ndarray:
        """(columns,) what to add to the log-odds of each class: 0 where the prevalences do not clearly differ."""
        from scipy.special import chdtrc

        errors = np.nan_to_num((self.elsewhere - self.annotated) / self.error)  # (columns,) standard errors apart
        # Of a random sample all of them together are no further apart than this; of another most classes are.
        together = chdtrc(max(1, np.count_nonzero(errors)), float(errors @ errors)) < CHANCE
        apart = np.abs(errors) > (1.0 if together else ERRORS)
        now = np.where(apart, self.elsewhere, self.annotated)
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = np.log(now) - np.log1p(-now) - np.log(self.annotated) + np.log1p(-self.annotated)
        return np.where(apart, shift, 0.0)


def prevalences(hard: np.ndarray, held_out: np.ndarray, elsewhere: np.ndarray) -> Prevalences:
    """Compare annotated examples with those that nobody annotated.

    Args:
      hard: (n, columns) of the annotated ones; NaN where unknown.
      held_out: alike, their probabilities by maps that had not seen them.
      elsewhere: (m, columns) mapped probabilities of the others; NaN where unknown.
    """
    shape = (3, hard.shape[1])
    means, errors, counts = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, int)
    for c in range(hard.shape[1]):
        parts = (held_out[hard[:, c] == 0, c], held_out[hard[:, c] == 1, c], elsewhere[~np.isnan(elsewhere[:, c]), c])
        for i, p in enumerate(parts):
            counts[i, c] = len(p)
            if len(p) > 1:
                means[i, c], errors[i, c] = p.mean(dtype=np.float64), p.std(ddof=1, dtype=np.float64) / np.sqrt(len(p))
    (without, with_it, mean), total = means, counts[0] + counts[1]
    annotated = counts[1] / np.maximum(total, 1)
    gap = np.where((with_it > without) & (counts[2] >= MIN_ROWS), with_it - without, np.nan)
    raw = (mean - without) / gap
    spread = errors[2] ** 2 + (raw * errors[1]) ** 2 + ((1 - raw) * errors[0]) ** 2
    error = np.sqrt(spread / gap**2 + annotated * (1 - annotated) / np.maximum(total, 1))
    edge = 0.5 / np.maximum(counts[2], 1)
    return Prevalences(annotated=annotated, elsewhere=np.clip(raw, edge, 1 - edge), error=error)
