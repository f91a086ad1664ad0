"""The mixture of a teacher's opinion with the human label, row by row, in whatever library the tensors are of.

A half that is missing (NaN) hands its weight to the other one. Not here: how far student and teacher are apart
(divergence.py), what compares with the human label, and what is refused: the callers bring the one, and do the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from softlabels.loss.divergence import TINY, sigmoid_divergence, softmax_divergence
from softlabels.loss.targets import Activation

ROUNDING = 4.8e-7  # 4 units of float32: a hard row this close to a sum of one is left as it is


@dataclass(frozen=True)
class Mixture:
    """What is the same for every row.

    ops: `keras.ops` or `pytorch.ops`, the library that tensors are of.
    hard_loss: from (batch, classes) hard labels without NaN and the outputs to (batch, classes) under sigmoid, (batch,)
      under softmax.
    alpha: a number or a scalar tensor. trust: (classes,) in [0, 1], or None for a teacher that is believed fully.
    """

    ops: Any
    hard_loss: Callable[[Any, Any], Any]
    activation: Activation
    alpha: Any
    trust: Any | None
    temperature: float
    min_mass: float
    from_logits: bool

    def rows(self, hard: Any, soft: Any | None, student: Any) -> Any:
        """(batch, classes) three times, of any type -> (batch,) float32."""
        cast, stop = self.ops.cast, self.ops.stop_gradient
        hard = stop(cast(hard, "float32"))
        soft = None if soft is None else stop(cast(soft, "float32"))
        rows = _sigmoid_rows if self.activation == "sigmoid" else _softmax_rows
        return rows(self, hard, soft, cast(student, "float32"))

    def believed(self) -> Any:
        """(classes,) float32, or 1."""
        return 1.0 if self.trust is None else self.ops.convert_to_tensor(self.trust, "float32")

    def weights(self, known: Any, told: Any) -> tuple[Any, Any]:
        """Weights of the hard and the soft term, where what is missing hands its weight to the other.

        Args:
          known: how much of the hard half there is, in [0, 1].
          told: how far the teacher is believed, in [0, 1]; 0 where it gave nothing.
        """
        both = known * told
        taught = self.alpha * both
        return known - taught, told - both + taught


def _sigmoid_rows(mix: Mixture, hard: Any, soft: Any | None, student: Any) -> Any:
    """(batch,): the mean over all classes, each weighted by what is known of it."""
    ops = mix.ops
    known = ops.equal(hard, hard)  # (batch, classes), False for NaN
    hard_term = mix.hard_loss(ops.where(known, hard, 0.0), student)
    known = ops.cast(known, "float32")
    if soft is None:
        return ops.mean(known * hard_term, axis=-1)  # (batch,)
    told = ops.cast(ops.equal(soft, soft), "float32") * mix.believed()  # (batch, classes), 0 for NaN
    hard_weight, soft_weight = mix.weights(known, told)
    soft = ops.where(soft >= TINY, soft, 0.0)
    temperature, logits = mix.temperature, mix.from_logits
    soft_term = sigmoid_divergence(ops, soft, soft_weight, student, temperature=temperature, from_logits=logits)
    return ops.mean(hard_weight * hard_term, axis=-1) + soft_term / student.shape[-1]


def _softmax_rows(mix: Mixture, hard: Any, soft: Any | None, student: Any) -> Any:
    """(batch,): one hard and one soft term a row.

    A hard row is divided by its sum. One that sums to less than 1 is a mixture with noise, of which nothing is known
    without a rest class: that part is missing, so the divided row counts by its sum.
    """
    ops = mix.ops
    total = ops.sum(hard, axis=-1, keepdims=True)  # (batch, 1), NaN stays NaN
    total = ops.where(ops.abs(total - 1.0) <= ROUNDING, 1.0, ops.where(total > 0.0, total, 0.0))  # 0 for NaN and noise
    hard_term = mix.hard_loss(ops.divide_no_nan(hard, total), student)  # (batch,), of zeros where nothing is known
    known = ops.squeeze(ops.minimum(total, 1.0), -1)  # (batch,)
    if soft is None:
        return known * hard_term
    covered = ops.equal(soft, soft)  # (batch, classes), False for NaN
    soft = ops.where(soft >= TINY, soft, 0.0)
    mass = ops.sum(soft, axis=-1)  # (batch,)
    enough = ops.logical_and(ops.sum(ops.cast(covered, "float32"), axis=-1) >= 2.0, mass >= max(mix.min_mass, TINY))
    told = ops.where(enough, 1.0 if mix.trust is None else ops.sum(soft * mix.believed(), axis=-1) / mass, 0.0)
    hard_weight, soft_weight = mix.weights(known, told)
    temperature, logits = mix.temperature, mix.from_logits
    soft_term = softmax_divergence(ops, soft, covered, student, temperature=temperature, from_logits=logits)
    return hard_weight * hard_term + soft_weight * soft_term
