"""Several teachers stacked: one weight a teacher, shared by all classes, learned from the annotated examples.

    log-odds of a class      = shift + sum_i weight_i * log-odds by teacher i, after its own calibration     (sigmoid)
    log of a class's share   = sum_i weight_i * log of its share by teacher i, up to a constant              (softmax)

Weights are 0 or more, fitted by penalised maximum likelihood around equal shares. Two teachers that err independently
get weights that sum to more than 1, two that err alike to about 1, and one that knows nothing gets 0.

Who is silent about a row or a class counts for nothing there. The others have weights of their own, fitted to all
examples of which they spoke, whoever else did; one that speaks alone stays as calibrated as it is. Simulated, with a
second teacher that lacks half of the classes, that gave a log-loss of 94 (10^-3 nats; the mean 117). One set of
weights, with the base rate for whoever is silent, gave 94 too, but 244 against 242 where both err alike; larger weights
of the others in its place gave 119.

Weights are fitted to what the teachers say after calibrations that had not seen the example, and measured on folds of
recordings that they have not seen either. They are used where they are better than the mean by two standard errors and
by two hundredths, and then fitted on all examples. (Of random labels nothing is left to say but how frequent classes
are, which weights of 0 say a little more steadily than maps: without the second condition they were used in 7 of 40
draws, with it in none of 1,600.) Annotated rows get the same ones: two to four numbers learn no single row by heart.
Not here: how teachers' rows meet (joins/ensemble.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from softlabels.calibration.candidates import FROM_NONE, clearly_above_zero, held_out, map_fits
from softlabels.calibration.fit import SHARED_SHIFT, SHARED_SLOPE, Evidence, fit_near, losses_of, one_sided
from softlabels.calibration.maps import Method, terms
from softlabels.calibration.measure import MIN_EXAMPLES, MIN_POSITIVES
from softlabels.classes.class_list import Activation
from softlabels.evidence.examples import Annotated

MIN_GAIN = 0.02  # share of the mean's log-loss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opinions:
    """What several teachers said of the same rows.

    soft: (teachers, n, classes) float; NaN where one is silent. prior: (teachers, classes), what of each one's log-odds
    is no opinion but a correction for how frequent a class is elsewhere, see `Calibrated`. mean: (n, classes).
    """

    soft: np.ndarray
    prior: np.ndarray
    mean: np.ndarray
    activation: Activation

    @property
    def sets(self) -> np.ndarray:
        """(n, classes) int: who spoke, of whom teacher i counts 2 ** i."""
        return np.tensordot(2 ** np.arange(len(self.soft)), ~np.isnan(self.soft), axes=1)

    def evidence(self, i: int) -> np.ndarray:
        """(n, classes) log-odds, or logs of shares, of teacher i without its prior; 0 where it is silent."""
        return np.nan_to_num(terms(self.soft[i], "temperature", self.activation)[0] - self.prior[i], nan=0.0)

    def part(self, rows: np.ndarray) -> "Opinions":
        return replace(self, soft=self.soft[:, rows], mean=self.mean[rows])

    def stacked(self, weights: np.ndarray) -> np.ndarray:
        """(n, classes) float64 without priors: log-odds or logs of shares; NaN where `weights` say nothing."""
        sets = self.sets
        total = weights[sets, -1]
        for i in range(len(self.soft)):
            total += weights[sets, i] * self.evidence(i)
        return total

    def probabilities(self, weights: np.ndarray) -> np.ndarray:
        """(n, classes) float64; the mean where `weights` say nothing. A row of shares keeps the sum of its mean."""
        logits = self.stacked(weights)
        known = ~np.isnan(logits)
        if self.activation == "sigmoid":
            spoke = ~np.isnan(self.soft)  # the prior is that of those who spoke, on average
            logits += (spoke * self.prior[:, None]).sum(axis=0) / np.maximum(spoke.sum(axis=0), 1)
        some = known | ~known.any(axis=1, keepdims=True)  # no row is empty
        logits = np.where(known, logits, 0.0)
        _, p = losses_of(logits, np.zeros_like(logits), some, self.activation)
        if self.activation == "softmax":
            p *= np.where(known, self.mean, 0.0).sum(axis=1, keepdims=True)
        return np.where(known, p, self.mean)


def fit_weights(hard: np.ndarray, opinions: Opinions) -> np.ndarray:
    """Weights for every set of two teachers or more that spoke together.

    Args:
      hard: (n, classes); NaN where nobody annotated.
    Returns: (2 ** teachers, teachers + 1) float64: of each set, see `Opinions.sets`, the weights of its members, 0 of
      others, and the shift. NaN where fewer examples tell than a calibration asks for, and where one speaks alone.
    """
    teachers, exclusive = len(opinions.soft), opinions.activation == "softmax"
    weights = np.full((2**teachers, teachers + 1), np.nan)
    annotated, sets = ~np.isnan(hard), opinions.sets
    evidence = [opinions.evidence(i) for i in range(teachers)]
    for spoke in np.unique(sets[annotated]).tolist():
        members = [i for i in range(teachers) if spoke >> i & 1]
        known = annotated & (sets & spoke == spoke)
        positives = np.count_nonzero(known & (hard > 0))
        enough = known.any(axis=1).sum() >= MIN_EXAMPLES and positives >= MIN_POSITIVES
        if len(members) < 2 or not enough or np.count_nonzero(known & (hard == 0)) < MIN_POSITIVES:
            continue
        of_members = [evidence[i] for i in members] + ([] if exclusive else [1.0])
        found = Evidence(terms=of_members, hard=np.where(known, hard, 0), known=known, activation=opinions.activation)
        found = found.part(known.any(axis=1))
        if not exclusive:
            found = found.part(slice(None), (found.hard == 1).any(axis=0) & ~one_sided(found))
        shift = [] if exclusive else [0.0]
        weights[spoke] = 0
        weights[spoke, members + [-1] * len(shift)] = fit_near(
            found,
            np.array([[1 / len(members)] * len(members) + shift]),
            np.array([[SHARED_SLOPE] * len(members) + [SHARED_SHIFT] * len(shift)]),
            np.array([[0.0] * len(members) + [-np.inf] * len(shift)]),
        )
    return weights


def held_out_opinions(
    examples: Annotated, soft: np.ndarray, used: Sequence[str], fold: np.ndarray, method: Method, activation: Activation
) -> Opinions:
    """What teachers say of annotated examples, each calibrated by maps that had not seen them.

    Args:
      soft: (teachers, n, columns) as the stores have them; NaN where one is silent.
      used: the map of each, as its `CalibrationReport` names it.
    """
    held = np.full(soft.shape, np.nan)
    for of_teacher, found, name in zip(soft, held, used, strict=True):
        fits = map_fits(method, activation, True, soft.shape[2]) if name != "none" else {}
        spoke = ~np.isnan(of_teacher) & ~np.isnan(examples.hard)
        rows = spoke.any(axis=1)
        hard, here = (np.where(spoke, each, np.nan)[rows] for each in (examples.hard, of_teacher))
        own = replace(examples.part(rows), hard=hard, soft=here)
        (candidate,) = (c for c in held_out(own, fold[rows], fits, method, activation) if c.name == name)
        found[rows] = np.where(spoke[rows], candidate.probabilities, np.nan)
    spoke = ~np.isnan(held)
    mean = np.where(spoke, held, 0).sum(axis=0) / np.maximum(spoke.sum(axis=0), 1)
    mean = np.where(spoke.any(axis=0), mean, np.nan)
    return Opinions(soft=held, prior=np.zeros((len(soft), soft.shape[2])), mean=mean, activation=activation)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stacking:
    """What was found, on examples that the weights had not seen.

    weights: as in `fit_weights`, None where the mean is best. alone: log-loss of each teacher on what it speaks of;
    mean, stacked: on everything. Nats, of an annotation of one class, or of a row where classes exclude each other.
    """

    weights: np.ndarray | None
    alone: tuple[float, ...]
    mean: float
    stacked: float

    def weights_of_all(self) -> np.ndarray | None:
        """(teachers,) where all of them speak; None where those are averaged."""
        if self.weights is None or np.isnan(self.weights[-1]).any():
            return None
        return self.weights[-1, :-1]


def stack(hard: np.ndarray, opinions: Opinions, recording: np.ndarray, fold: np.ndarray) -> Stacking:
    """Measure weights against the mean on folds that they were not fitted on; fit them on everything where they win.

    Args:
      hard: (n, classes) 0 or 1; NaN where nobody annotated, or no teacher spoke. opinions: `held_out_opinions`.
      recording: (n,) int64, the units of the standard error; fold: (n,) int64, what is left out together.
    """
    known, activation = ~np.isnan(hard), opinions.activation
    if activation == "softmax":
        hard = hard / np.nansum(hard, axis=1, keepdims=True)
    mean = terms(opinions.mean, "temperature", activation)[0]
    stacked = np.empty_like(mean)
    for number in np.unique(fold):
        here = fold == number
        stacked[here] = opinions.part(here).stacked(fit_weights(hard[~here], opinions.part(~here)))
    stacked = np.where(np.isnan(stacked), mean, stacked)
    spoke = [known & ~np.isnan(soft) for soft in opinions.soft]
    alone = [_row_losses(opinions.evidence(i), hard, of, activation) for i, of in enumerate(spoke)]
    of_mean, of_stack = (_row_losses(logits, hard, known, activation) for logits in (mean, stacked))
    gains = of_mean - of_stack
    better = gains.sum() >= MIN_GAIN * of_mean.sum() and clearly_above_zero(gains, recording, FROM_NONE)

    def per_annotation(losses: np.ndarray, of: np.ndarray) -> float:
        return float(losses.sum() / max(1, (of.any(axis=1) if activation == "softmax" else of).sum()))

    return Stacking(
        weights=fit_weights(hard, opinions) if better else None,
        alone=tuple(map(per_annotation, alone, spoke)),
        mean=per_annotation(of_mean, known),
        stacked=per_annotation(of_stack, known),
    )


def _row_losses(logits: np.ndarray, hard: np.ndarray, known: np.ndarray, activation: Activation) -> np.ndarray:
    """(n,) nats, summed over the known classes; 0 in a row without any."""
    losses, rows = np.zeros(len(hard)), known.any(axis=1)
    of_known = known[rows]
    logits, hard = (np.where(of_known, each[rows], 0.0) for each in (logits, hard))
    losses[rows] = losses_of(logits, hard, of_known, activation)[0].sum(axis=1)
    return losses
