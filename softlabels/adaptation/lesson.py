"""A lesson: annotated examples with all that the teacher gave them, and probes taught on some and tried on others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from softlabels.adaptation.probe import PENALTIES, fit_probe
from softlabels.calibration.candidates import Fit, clearly_above_zero
from softlabels.calibration.fit import MIN_NEGATIVES, Evidence, losses_of
from softlabels.calibration.maps import Method
from softlabels.classes.class_list import Activation
from softlabels.evidence.examples import Annotated

ERRORS = 2.0  # standard errors that a probe must gain on the best that there is without it; see README
REACH = 3.0  # that it must gain on how frequent a class is that the teacher lacks: each is asked
MIN_POSITIVES = 2  # of a class that is to be taught


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What there is to teach with.

    inputs: (n, k + 1) float64 of the examples, as `with_bias` gives them. unseen: (columns,) bool, classes that the
    teacher lacks. fits: the maps of the calibration below the probe, one after the other; none changes nothing.
    """

    examples: Annotated
    inputs: np.ndarray
    unseen: np.ndarray
    fits: Sequence[Fit]
    method: Method
    activation: Activation

    @property
    def able(self) -> np.ndarray:
        """(columns,) bool: the classes with enough examples."""
        return (self.examples.positives >= MIN_POSITIVES) & (self.examples.negatives >= MIN_NEGATIVES)

    def base(self, seen: np.ndarray) -> np.ndarray:
        """(columns,) the log-odds of each class among some examples, which is all that is known of an unseen one."""
        part = self.examples.part(seen)
        return np.log((part.positives + 0.5) / (part.negatives + 0.5))

    def offset(self, seen: np.ndarray) -> np.ndarray:
        """(n, columns) logits of all examples without a probe, by maps fitted on some; seen: (n,) bool."""
        sighted = self.examples.of_columns(~self.unseen)
        evidence, parameters = Evidence.of(sighted.hard, sighted.soft, "temperature", self.activation), np.ones((1, 1))
        if self.fits:
            evidence = Evidence.of(sighted.hard, sighted.soft, self.method, self.activation)
        for fit in self.fits:
            parameters = fit(evidence.part(seen), parameters)
        logits = np.broadcast_to(self.base(seen), self.examples.hard.shape).copy()
        logits[:, ~self.unseen] = evidence.logits(parameters)
        return logits

    def probe(
        self, seen: np.ndarray, offset: np.ndarray, penalty: float, start: np.ndarray | None = None
    ) -> np.ndarray:
        """(columns, k + 1) weights taught on some examples."""
        return fit_probe(
            self.inputs[seen],
            self.examples.hard[seen],
            offset[seen],
            self.able,
            self.activation,
            penalty=penalty,
            start=start,
        )

    def held_out(self, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Logits that nothing had seen, of calibration alone and with the probe, (n, columns) each; the best penalty.

        Each fold takes the penalty that was best on the others, so that the choice does not flatter the outcome.
        """
        numbers, of = np.unique(fold, return_inverse=True)
        offset = np.empty(self.examples.hard.shape)
        logits = np.empty((len(PENALTIES), *offset.shape))
        losses = np.zeros((len(PENALTIES), len(numbers)))
        for f in range(len(numbers)):
            here, weights = of == f, None
            for_all = self.offset(~here)
            offset[here] = for_all[here]
            for trial, penalty in enumerate(PENALTIES):
                weights = self.probe(~here, for_all, penalty, weights)
                logits[trial, here] = for_all[here] + self.inputs[here] @ weights.T
                losses[trial, f] = self.losses(logits[trial], here).sum()
        total = losses.sum(axis=1)
        chosen = (total[:, None] - losses).argmin(axis=0)  # (folds,) by the other folds
        return offset, logits[chosen[of], np.arange(len(of))], PENALTIES[int(total.argmin())]

    def losses(self, logits: np.ndarray, some: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(m, columns) log-loss of some examples, of classes that can be taught."""
        hard = self.examples.hard[some]
        known = ~np.isnan(hard) & (self.able | (self.activation == "softmax"))
        target = np.where(known, hard, 0)
        if self.activation == "softmax":
            target = target / target.sum(axis=1, keepdims=True)
        return losses_of(logits[some], target, known, self.activation)[0]

    def reached(self, offset: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """(columns,) bool: unseen classes of which the probe clearly knows more than how frequent they are."""
        gains = self.losses(offset) - self.losses(logits)
        candidates = self.unseen & self.able
        clear = [c for c in np.flatnonzero(candidates) if self._clear(gains[:, c])]
        return np.isin(np.arange(len(candidates)), clear)

    def _clear(self, gains: np.ndarray) -> bool:
        return clearly_above_zero(gains, self.examples.recording, REACH)
