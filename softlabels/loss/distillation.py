"""The distillation loss: a pure function, one value per row, and the `keras.losses.Loss` over it.

    L = (1 / C) sum_c [ hard_weight_c * student_loss_c + soft_weight_c * T^2 * KL_c ]           (sigmoid)

A half that is missing (NaN) hands its weight to the other one. Not here: the divergence itself (divergence.py), how a
student loss is found and called (student_loss.py), what is refused (checks.py), packing in NumPy (targets.py).
"""

from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from softlabels.loss.checks import (
    MIN_MASS,
    check_arguments,
    check_shapes,
    check_trust,
    values_if_known,
    warn_of_half_precision,
)
from softlabels.loss.divergence import TINY, sigmoid_divergence, softmax_divergence
from softlabels.loss.student_loss import (
    check_any_width,
    check_student_loss,
    hard_loss,
    resolve_student_loss,
    with_lists,
)
from softlabels.loss.targets import Activation, check_halves

ROUNDING = 4.8e-7  # 4 units of float32: a hard row this close to a sum of one is left as it is


def distillation_loss(
    hard: Any,
    soft: Any | None,
    student: Any,
    *,
    activation: Activation,
    temperature: float,
    alpha: Any,
    trust: Any | None = None,
    min_mass: float = MIN_MASS,
    student_loss: keras.losses.Loss | None = None,
    from_logits: bool = True,
) -> Any:
    """Mix the teacher's opinion with the human label, one value per example.

    Args:
      hard: (batch, classes) float in [0, 1]; NaN where nobody annotated.
      soft: (batch, classes) teacher probabilities; NaN where the teacher gave nothing; None for no teacher at all.
      student: (batch, classes) the student's log-odds (sigmoid) or logits (softmax).
      activation: "sigmoid" or "softmax", read from the store.
      temperature: T > 0, no unit; 1 leaves the teacher as it is.
      alpha: weight of the teacher, in [0, 1]; a number or a scalar tensor.
      trust: (classes,) in [0, 1], how far the teacher is believed on each class; None is fully.
      min_mass: softmax only, the least sum of a soft row that counts.
      student_loss: what compares with the human label, tried out at each call (`DistillationLoss` tries it once); None
        is binary or categorical cross-entropy.
      from_logits: False where `student` is probabilities.
    Returns: (batch,) float32.
    Raises: ValueError: temperature <= 0, alpha outside [0, 1], unknown activation, trust or min_mass out of range, or
      a student loss that does not fit.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    Example:
      >>> how = {"activation": "sigmoid", "temperature": 1.0, "alpha": 0.3}
      >>> rows = softlabels.distillation_loss(labels.hard([0]), labels.soft([0]), np.zeros((1, 3)), **how)
      >>> np.asarray(rows).shape
      (1,)
    """
    check_arguments("distillation_loss", activation, temperature, alpha, min_mass)
    trust = None if trust is None else check_trust("distillation_loss", trust)
    student, turned = ops.cast(student, "float32"), False
    if student_loss is None:
        student_loss = resolve_student_loss(None, activation, from_logits)
    else:
        turned = check_student_loss(student_loss, activation, from_logits, student.shape[-1])
    mix = _Mixture(activation, alpha, trust, temperature, min_mass, student_loss, turned, from_logits)
    return mix.rows(hard, soft, student)


@dataclass(frozen=True, slots=True)
class _Mixture:
    """What is the same for every row; see `distillation_loss`. turned: of `hard_loss`."""

    activation: Activation
    alpha: Any
    trust: Any | None
    temperature: float
    min_mass: float
    student_loss: keras.losses.Loss
    turned: bool
    from_logits: bool

    def rows(self, hard: Any, soft: Any | None, student: Any) -> Any:
        """(batch, classes) three times, of any type -> (batch,) float32."""
        hard = ops.stop_gradient(ops.cast(hard, "float32"))
        soft = None if soft is None else ops.stop_gradient(ops.cast(soft, "float32"))
        rows = _sigmoid_rows if self.activation == "sigmoid" else _softmax_rows
        return rows(hard, soft, ops.cast(student, "float32"), self)

    def believed(self) -> Any:
        """(classes,) float32, or 1."""
        return 1.0 if self.trust is None else ops.convert_to_tensor(self.trust, "float32")

    def hard_loss(self, hard: Any, student: Any) -> Any:
        """(batch, classes) under sigmoid, (batch,) under softmax."""
        return hard_loss(self.student_loss, hard, student, activation=self.activation, turned=self.turned)

    def weights(self, known: Any, told: Any) -> tuple[Any, Any]:
        """Weights of the hard and the soft term, where what is missing hands its weight to the other.

        Args:
          known: how much of the hard half there is, in [0, 1].
          told: how far the teacher is believed, in [0, 1]; 0 where it gave nothing.
        """
        both = known * told
        taught = self.alpha * both
        return known - taught, told - both + taught


def _sigmoid_rows(hard: Any, soft: Any | None, student: Any, mix: _Mixture) -> Any:
    """(batch,): the mean over all classes, each weighted by what is known of it."""
    known = ops.equal(hard, hard)  # (batch, classes), False for NaN
    hard_term = mix.hard_loss(ops.where(known, hard, 0.0), student)
    known = ops.cast(known, "float32")
    if soft is None:
        return ops.mean(known * hard_term, axis=-1)  # (batch,)
    told = ops.cast(ops.equal(soft, soft), "float32") * mix.believed()  # (batch, classes), 0 for NaN
    hard_weight, soft_weight = mix.weights(known, told)
    soft = ops.where(soft >= TINY, soft, 0.0)
    soft_term = sigmoid_divergence(soft, soft_weight, student, temperature=mix.temperature, from_logits=mix.from_logits)
    return ops.mean(hard_weight * hard_term, axis=-1) + soft_term / student.shape[-1]


def _softmax_rows(hard: Any, soft: Any | None, student: Any, mix: _Mixture) -> Any:
    """(batch,): one hard and one soft term a row.

    A hard row is divided by its sum. One that sums to less than 1 is a mixture with noise, of which nothing is known
    without a rest class: that part is missing, so the divided row counts by its sum.
    """
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
    soft_term = softmax_divergence(soft, covered, student, temperature=mix.temperature, from_logits=mix.from_logits)
    return hard_weight * hard_term + soft_weight * soft_term


@keras.saving.register_keras_serializable(package="softlabels")
class DistillationLoss(keras.losses.Loss):
    """Distillation over packed targets `[hard | soft]`, weightable, serialisable, on every Keras backend.

    `y_true` is (batch, 2 * classes); a plain (batch, classes) is taken as hard labels without a teacher, so that
    `validation_data` can stay hard. `alpha` can be changed while training: `loss.alpha = 0.3`, or `AlphaSchedule`.

        model.compile("adam", loss=softlabels.DistillationLoss(0.5, 3.0, from_logits=True))

    Example:
      >>> loss = softlabels.DistillationLoss.for_labels(labels, from_logits=True)
      >>> loss.activation, loss.alpha, loss.temperature
      ('sigmoid', 0.3, 1.0)
    """

    def __init__(
        self,
        alpha: float = 0.5,
        temperature: float = 3.0,
        student_loss: keras.losses.Loss | str | dict[str, Any] | None = None,
        activation: Activation = "softmax",
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "distillation_loss",
        *,
        trust: Any | None = None,
        min_mass: float = MIN_MASS,
    ):
        """Check every argument now, so that nothing fails in the middle of a training.

        Args:
          alpha: weight of the **soft** term in [0, 1], as published (others weight the hard one).
          temperature: T > 0; the soft term is scaled by T².
          student_loss: a Keras loss, a name or a config, whatever its reduction; None is binary (sigmoid) or
            categorical (softmax) cross-entropy. A name inherits `from_logits`, an object must agree with it. It may
            hold one weight per class. Label smoothing acts on the hard half only.
          activation: "sigmoid" for independent classes, "softmax" for exclusive ones: what the teacher has.
          from_logits: whether the student's outputs are logits.
          reduction, name: Keras's own.
          trust: one number per class in [0, 1]; None believes the teacher fully.
          min_mass: softmax only; a soft row that sums to less counts as missing.
        Raises: ValueError: an argument is out of range, or the student loss does not fit; the first call tries it
          again on as many classes as the student has.
        """
        super().__init__(name=name, reduction=reduction, dtype="float32")
        check_arguments("DistillationLoss", activation, temperature, alpha, min_mass)
        self.temperature = float(temperature)
        self.activation = activation
        self.from_logits = bool(from_logits)
        self.min_mass = float(min_mass)
        self.trust = None if trust is None else check_trust("DistillationLoss", trust)
        self._student_loss_given = student_loss
        self.student_loss = resolve_student_loss(student_loss, activation, self.from_logits)
        check_any_width(self.student_loss, activation, self.from_logits)
        self._warned = False
        self._turned: dict[int, bool] = {}  # what `check_student_loss` found, by number of classes
        self._alpha = float(alpha)
        self.alpha_variable = keras.Variable(self._alpha, dtype="float32", trainable=False, name="alpha")

    @classmethod
    def for_labels(
        cls,
        labels: Any,
        alpha: float | None = None,
        temperature: float | None = None,
        *,
        student_loss: keras.losses.Loss | str | dict[str, Any] | None = None,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "distillation_loss",
        min_mass: float = MIN_MASS,
    ) -> Self:
        """Take activation and trust from joined labels, with defaults that fit them: alpha 0.3 and T = 1.

        With 2 to 100 % of the clips annotated, alpha 0.2 to 0.3 was best or within half a point of it, so soft labels
        need not be weighed again as annotations come in. T = 1 also for softmax, where it beat 2 and 3; for sigmoid
        T > 1 lifts every absent class to 0.5.

        Args:
          labels: `JoinedLabels`; its `activation`, `classes` and `class_trust` are read.
          alpha, temperature: None takes the default named above; the others are the constructor's.
        Raises: ValueError: as the constructor, or trust and class list differ in length.
        """
        trust = labels.class_trust
        if trust is not None and len(trust) != len(labels.classes):
            raise ValueError(
                f"DistillationLoss.for_labels: expected one trust per class, {len(labels.classes)}; "
                f"got {len(trust)}; join the labels again"
            )
        return cls(
            0.3 if alpha is None else alpha,
            1.0 if temperature is None else temperature,
            student_loss,
            labels.activation,
            from_logits,
            reduction,
            name,
            trust=trust,
            min_mass=min_mass,
        )

    @property
    def alpha(self) -> float:
        """Weight of the soft term now; setting it takes effect in an already traced training step.

        On JAX a compiled step holds it as a constant, so `AlphaSchedule` compiles the step again there.
        """
        now = float(ops.convert_to_numpy(self.alpha_variable.value))
        return self._alpha if np.float32(self._alpha) == np.float32(now) else now

    @alpha.setter
    def alpha(self, value: float) -> None:
        check_arguments("DistillationLoss", self.activation, self.temperature, value, self.min_mass)
        self._alpha = float(value)
        self.alpha_variable.assign(self._alpha)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        """Keras's own call, after the targets have been checked against the outputs."""
        y_true = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
        y_pred = y_pred if hasattr(y_pred, "shape") else np.asarray(y_pred)
        check_shapes(y_true, y_pred)
        self._warned = self._warned or (not self.from_logits and warn_of_half_precision(y_pred.dtype))
        values = values_if_known(y_true)
        if values is not None:
            values, classes = values.astype(np.float32, copy=False), y_pred.shape[-1]
            check_halves(values[:, :classes], values[:, classes:], activation=self.activation, who="DistillationLoss")
        return super().__call__(y_true, y_pred, sample_weight=sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(batch, 2 * classes) or (batch, classes), (batch, classes) -> (batch,)."""
        classes = y_pred.shape[-1]
        if self.trust is not None and len(self.trust) != classes:
            raise ValueError(
                f"DistillationLoss: expected trust for the student's {classes} classes; got {len(self.trust)} "
                "values; make the loss with for_labels(labels)"
            )
        if classes not in self._turned:
            self._turned[classes] = check_student_loss(self.student_loss, self.activation, self.from_logits, classes)
        hard, soft = split_halves(y_true, classes)
        return _Mixture(
            self.activation,
            self.alpha_variable.value,
            self.trust,
            self.temperature,
            self.min_mass,
            self.student_loss,
            self._turned[classes],
            self.from_logits,
        ).rows(hard, soft, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Every argument as plain values; alpha as it is now."""
        student_loss = self._student_loss_given
        if student_loss is not None and not isinstance(student_loss, str | dict):
            student_loss = with_lists(keras.saving.serialize_keras_object(student_loss))
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "student_loss": student_loss,
            "activation": self.activation,
            "from_logits": self.from_logits,
            "trust": None if self.trust is None else self.trust.tolist(),
            "min_mass": self.min_mass,
        }


def split_halves(y_true: Any, classes: int) -> tuple[Any, Any | None]:
    """Hard and soft half, (batch, classes) each; soft is None where there is no teacher.

    Args:
      y_true: (batch, 2 * classes), (batch, classes), or of a width that TensorFlow no longer knows because the traced
        function has seen both.
    """
    width = y_true.shape[-1]
    if width is not None:
        return y_true[:, :classes], y_true[:, classes:] if width == 2 * classes else None
    batch, width = ops.shape(y_true)
    # This reshape fails, as it must, for every width but these two.
    halves = ops.reshape(y_true, (batch, 1 + width // (2 * classes), classes))  # (batch, 1 or 2, classes)
    silent = ops.full_like(halves[:, :1], float("nan"))  # (batch, 1, classes)
    halves = ops.concatenate([halves, silent], axis=1)
    return halves[:, 0], halves[:, 1]
