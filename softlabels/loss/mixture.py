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

    def weights(self, known: Any, told: Any, trust: Any) -> tuple[Any, Any]:
        """Weights of the hard and the soft term: a missing half hands its weight to the other."""
        where, teacher = self.ops.where, self.alpha * trust
        hard_weight = where(known, where(told, 1.0 - teacher, 1.0), 0.0)
        soft_weight = where(told, where(known, teacher, trust), 0.0)
        return hard_weight, soft_weight * self.temperature**2


def _sigmoid_rows(mix: Mixture, hard: Any, soft: Any | None, student: Any) -> Any:
    """(batch,): the mean over all classes, each weighted by what is known of it."""
    ops = mix.ops
    known = ops.equal(hard, hard)  # (batch, classes), False for NaN
    hard_term = mix.hard_loss(ops.where(known, hard, 0.0), student)
    if soft is None:
        return ops.mean(ops.where(known, hard_term, 0.0), axis=-1)  # (batch,)
    told = ops.equal(soft, soft)  # (batch, classes), False for NaN
    hard_weight, soft_weight = mix.weights(known, told, mix.believed())
    soft = ops.where(told, soft, 0.5)
    soft_term = sigmoid_divergence(ops, soft, student, temperature=mix.temperature, from_logits=mix.from_logits)
    return ops.mean(hard_weight * hard_term + soft_weight * soft_term, axis=-1)


def _softmax_rows(mix: Mixture, hard: Any, soft: Any | None, student: Any) -> Any:
    """(batch,): one hard and one soft term a row.

    A hard row is divided by its sum. One that sums to less than 1 is a mixture with noise, of which nothing is known
    without a rest class: that part is missing, so the divided row counts by its sum.
    """
    ops = mix.ops
    row_sum = ops.sum(hard, axis=-1, keepdims=True)  # (batch, 1), NaN stays NaN
    known = row_sum > 0.0  # False for NaN and for noise
    divisor = ops.where(ops.logical_and(known, ops.abs(row_sum - 1.0) > ROUNDING), row_sum, 1.0)
    hard_term = mix.hard_loss(ops.where(known, hard, 0.0) / divisor, student)  # (batch,)
    known, share = ops.squeeze(known, -1), ops.squeeze(ops.minimum(divisor, 1.0), -1)  # (batch,) twice
    if soft is None:
        return ops.where(known, share * hard_term, 0.0)
    covered = ops.equal(soft, soft)  # (batch, classes), False for NaN
    soft = ops.where(covered, soft, 0.0)
    mass = ops.sum(soft, axis=-1)  # (batch,)
    told = ops.logical_and(ops.sum(ops.cast(covered, "int32"), axis=-1) >= 2, mass >= max(mix.min_mass, TINY))
    belief = (
        1.0 if mix.trust is None else ops.sum(soft * mix.believed(), axis=-1) / ops.where(told, mass, 1.0)
    )  # (batch,)
    hard_weight, soft_weight = mix.weights(known, told, belief)
    alone = ops.where(told, belief, 0.0) * mix.temperature**2  # the teacher's weight where nobody annotated
    soft_weight = share * soft_weight + (1.0 - share) * alone
    soft_term = softmax_divergence(
        ops, soft, covered, student, temperature=mix.temperature, from_logits=mix.from_logits
    )
    return share * hard_weight * hard_term + soft_weight * soft_term
