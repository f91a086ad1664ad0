"""Ways to change the labels, each measured on recordings that it was not fitted on; the simplest that is clearly best.

"Clearly" is by Student's t over recordings: the windows of one are nearly the same, and of few recordings even a mean
of two standard errors is often chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from softlabels.calibration.fit import Evidence, fit_classes, fit_shared, losses_of
from softlabels.calibration.maps import Method, parameter_names
from softlabels.classes.class_list import Activation
from softlabels.evidence.examples import Annotated

FROM_NONE, FROM_SHARED = 2.0, 1.0  # standard errors that a map must gain on what it replaces
MAX_EXCLUSIVE = 300  # classes under one softmax with a map each: these are fitted together, all with all

Fit = Callable[[Evidence, np.ndarray], np.ndarray]  # with what the simpler candidate found there, -> parameters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A way to change the labels, and what it gave examples that no fit had seen.

    errors: standard errors that it must gain on a simpler one that is not "none". evidence: of the examples.
    logits: (n, columns) float32; losses, probabilities: of them, alike.
    """

    name: str
    errors: float
    evidence: Evidence
    logits: np.ndarray
    losses: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, name: str, errors: float, logits: np.ndarray, evidence: Evidence) -> "Candidate":
        losses, probabilities = losses_of(logits, evidence.hard, evidence.known, evidence.activation)
        parts = {"logits": logits, "losses": losses, "probabilities": probabilities}
        return cls(
            name=name,
            errors=errors,
            evidence=evidence,
            **{part: values.astype(np.float32) for part, values in parts.items()},
        )

    @property
    def log_loss(self) -> float:
        """Nats, summed."""
        return float(self.losses.sum(dtype=np.float64))


def map_fits(method: Method, activation: Activation, per_class: bool, classes: int) -> dict[str, Fit]:
    """The maps by name, each fitted from the one before it; the last is the one asked for; none for "none"."""
    if method == "none":
        return {}
    parameter_names(method, activation)  # refuses what is no method
    fits: dict[str, Fit] = {f"{method}, shared": lambda evidence, _: fit_shared(evidence, method)}
    one = activation == "softmax" and (method == "temperature" or classes > MAX_EXCLUSIVE)
    if per_class and not one:
        fits[f"{method}, per class"] = lambda evidence, shared: fit_classes(evidence, method, shared)
    return fits


def held_out(
    annotated: Annotated, fold: np.ndarray, fits: dict[str, Fit], method: Method, activation: Activation
) -> list[Candidate]:
    """The labels as they are, "none", then the maps, each example mapped by a fit on the other folds."""
    evidence = Evidence.of(annotated.hard, annotated.soft, "temperature", activation)
    as_they_are = Candidate.of("none", 0.0, evidence.logits(np.ones((1, 1))), evidence)
    if not fits:
        return [as_they_are]
    evidence = Evidence.of(annotated.hard, annotated.soft, method, activation)
    logits = np.empty((len(fits), *annotated.hard.shape), np.float32)
    for number in np.unique(fold):
        here = fold == number
        seen, unseen, parameters = evidence.part(~here), evidence.part(here), np.empty(0)
        for fit, mapped in zip(fits.values(), logits, strict=True):
            parameters = fit(seen, parameters)
            mapped[here] = unseen.logits(parameters)
    maps = zip(fits, logits, strict=True)
    return [as_they_are, *(Candidate.of(name, FROM_SHARED, mapped, evidence) for name, mapped in maps)]


def best_of(candidates: Sequence[Candidate], recording: np.ndarray) -> int:
    """Which is the simplest candidate that no later one clearly beats; recording: (n,) of each example."""
    best = 0
    for number, candidate in enumerate(candidates[1:], start=1):
        gains = (candidates[best].losses - candidate.losses).sum(axis=1, dtype=np.float64)
        if clearly_above_zero(gains, recording, FROM_NONE if best == 0 else candidate.errors):
            best = number
    return best


def clearly_above_zero(gains: np.ndarray, recording: np.ndarray, errors: float) -> bool:
    """Whether a mean gain is so many standard errors above 0, as if there were very many recordings.

    Args:
      gains: (n,) of examples; recording: (n,) int64 of each, which are the units.
      errors: of the normal distribution; of few recordings Student's t asks for more: 14 of two, for 2 of many.
    """
    from scipy.special import ndtr, stdtrit  # half a second to import, and few ever calibrate

    of_recording = np.bincount(recording, gains)[np.bincount(recording) > 0]
    if len(of_recording) < 2:
        return False
    least = stdtrit(len(of_recording) - 1, ndtr(errors))
    return bool(of_recording.sum() > least * np.sqrt(len(of_recording)) * of_recording.std(ddof=1))
