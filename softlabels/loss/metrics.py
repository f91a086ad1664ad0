"""Metrics for packed targets `[hard | soft]`: a wrapper that shows any Keras metric the hard half only, and how well
the student follows its teacher. Not here: the loss.
"""

from typing import Any

import keras
from keras import ops

from softlabels.loss.checks import check_arguments, check_shapes
from softlabels.loss.distillation import split_halves
from softlabels.loss.divergence import TINY, sigmoid_divergence, softmax_divergence
from softlabels.loss.targets import Activation


@keras.saving.register_keras_serializable(package="softlabels")
class HardLabelMetric(keras.metrics.Metric):
    """Any Keras metric, computed on the hard half of packed targets.

    Rows whose hard half holds a NaN are left out by weight 0. Plain targets (batch, classes) work too. Results carry
    the wrapped metric's name.

        model.compile(loss=loss, metrics=[softlabels.HardLabelMetric(keras.metrics.AUC(multi_label=True))])

    Example:
      >>> softlabels.HardLabelMetric("accuracy").name
      'categorical_accuracy'
    """

    def __init__(self, metric: keras.metrics.Metric | str | dict[str, Any], name: str | None = None, dtype: Any = None):
        """Wrap a metric, its name or its config. Raises: ValueError: no such metric.

        Args:
          metric: "accuracy" is categorical accuracy.
          name: None takes the metric's.
          dtype: of the wrapped function where the metric is only a function; else ignored.
        """
        metric = keras.metrics.get("categorical_accuracy" if metric in ("accuracy", "acc") else metric)
        if not isinstance(metric, keras.metrics.Metric):
            metric = keras.metrics.MeanMetricWrapper(metric, name=metric.__name__, dtype=dtype)
        super().__init__(name=name or metric.name, dtype=metric.dtype)
        self.metric = metric

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> None:
        """Show the metric the hard half of (batch, 2 * classes) or (batch, classes); weights (batch,). ValueError."""
        hard, _, student = _halves(y_true, y_pred)  # (batch, classes)
        known = ops.equal(hard, hard)  # False for NaN
        weight = _weights(ops.all(known, axis=-1), sample_weight)
        self.metric.update_state(ops.where(known, hard, 0.0), student, sample_weight=weight)

    def result(self) -> Any:
        """The wrapped metric's result."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Reset the wrapped metric."""
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """The wrapped metric's config and the name."""
        return {"name": self.name, "metric": keras.saving.serialize_keras_object(self.metric)}


@keras.saving.register_keras_serializable(package="softlabels")
class TeacherAgreement(keras.metrics.Metric):
    """How well the student follows the teacher: share of equal top classes, and mean KL at T = 1 in nats.

    Only the classes the teacher knows count, and only rows where it knows two or more (and, under softmax, has given
    them any mass). Under sigmoid the KL is the mean over those classes. Plain hard targets count as no rows.

    Example:
      >>> metric = softlabels.TeacherAgreement("sigmoid")
      >>> metric.update_state(labels.y_true([0]), labels.soft([0]))
      >>> float(metric.result()["teacher_agreement"])
      1.0
    """

    def __init__(
        self,
        activation: Activation = "softmax",
        from_logits: bool = False,
        name: str = "teacher",
        dtype: Any = None,
    ):
        """Choose how outputs are read; results are `<name>_agreement` and `<name>_kl`.

        Args:
          activation: of the teacher.
          from_logits: whether the student's outputs are logits.
        Raises: ValueError: unknown activation.
        """
        check_arguments("TeacherAgreement", activation, 1.0, 0.0, 0.0)
        super().__init__(name=name, dtype=dtype)
        self.activation, self.from_logits = activation, bool(from_logits)
        self.agreement = keras.metrics.Mean(name="agreement")
        self.kl = keras.metrics.Mean(name="kl")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> None:
        """Compare the soft half with the outputs; hard targets alone are skipped. Shapes and error as above."""
        _, soft, student = _halves(y_true, y_pred)
        if soft is None:
            return
        student = ops.cast(student, "float32")
        covered = ops.equal(soft, soft)  # (batch, classes), False for NaN
        soft = ops.where(soft >= TINY, soft, 0.0)
        count = ops.sum(ops.cast(covered, "float32"), axis=-1)  # (batch,)
        told = count >= 2.0
        if self.activation == "softmax":
            told = ops.logical_and(told, ops.sum(soft, axis=-1) > 0.0)
        weight = _weights(told, sample_weight)
        same = ops.equal(_top(soft, covered), _top(student, covered))  # (batch,)
        self.agreement.update_state(ops.cast(same, "float32"), sample_weight=weight)
        self.kl.update_state(self._divergence(soft, covered, count, student), sample_weight=weight)

    def _divergence(self, soft: Any, covered: Any, count: Any, student: Any) -> Any:
        """(batch,) KL to the teacher at T = 1."""
        if self.activation == "softmax":
            return softmax_divergence(ops, soft, covered, student, temperature=1.0, from_logits=self.from_logits)
        weight = ops.cast(covered, "float32")
        kl = sigmoid_divergence(ops, soft, weight, student, temperature=1.0, from_logits=self.from_logits)  # (batch,)
        return kl / ops.maximum(count, 1.0)

    def result(self) -> dict[str, Any]:
        """Both numbers by name."""
        return {f"{self.name}_agreement": self.agreement.result(), f"{self.name}_kl": self.kl.result()}

    def get_config(self) -> dict[str, Any]:
        """Every argument."""
        return {**super().get_config(), "activation": self.activation, "from_logits": self.from_logits}


def _halves(y_true: Any, y_pred: Any) -> tuple[Any, Any | None, Any]:
    """Hard and soft half, (batch, classes) float32 each, and the outputs as they are. Raises: ValueError."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    check_shapes("DistillationLoss", y_true, y_pred)
    return *split_halves(ops.cast(y_true, "float32"), y_pred.shape[-1]), y_pred


def _weights(counts: Any, sample_weight: Any | None) -> Any:
    """(batch,) float32: the weight of the rows that count, 0 for the others."""
    weight = ops.cast(counts, "float32")
    return weight if sample_weight is None else weight * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))


def _top(values: Any, covered: Any) -> Any:
    """(batch, classes) -> (batch,) index of the largest among the covered classes."""
    return ops.argmax(ops.where(covered, values, -3e38), axis=-1)
