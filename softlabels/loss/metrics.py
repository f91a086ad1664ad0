"""Metrics for packed targets `[hard | soft]`: a wrapper that shows any Keras metric the hard half only, and how well
the student follows its teacher. Not here: the loss.
"""

from typing import Any, Literal

import keras
from keras import ops

from softlabels.loss.distillation import check_arguments, check_shapes, split_halves
from softlabels.loss.divergence import sigmoid_divergence, softmax_divergence


@keras.saving.register_keras_serializable(package="softlabels")
class HardLabelMetric(keras.metrics.Metric):
    """Any Keras metric, computed on the hard half of packed targets.

    Rows whose hard half holds a NaN are left out by weight 0. Plain targets (batch, classes) work too. Results carry
    the wrapped metric's name.

        model.compile(loss=loss, metrics=[softlabels.HardLabelMetric(keras.metrics.AUC(multi_label=True))])
    """

    def __init__(self, metric: keras.metrics.Metric | str | dict, name: str | None = None, dtype: Any = None):
        """Wrap a metric.

        Args:
          metric: a Keras metric, its name, or its config; "accuracy" is categorical accuracy.
          name: None takes the metric's.
          dtype: of the wrapped function where the metric is only a function; else ignored.
        Raises: ValueError: no such metric.
        """
        metric = keras.metrics.get("categorical_accuracy" if metric in ("accuracy", "acc") else metric)
        if not isinstance(metric, keras.metrics.Metric):
            metric = keras.metrics.MeanMetricWrapper(metric, name=metric.__name__, dtype=dtype)
        super().__init__(name=name or metric.name, dtype=metric.dtype)
        self.metric = metric

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> None:
        """Show the metric the hard half.

        Args:
          y_true: (batch, 2 * classes) packed, or (batch, classes) hard.
          y_pred: (batch, classes).
          sample_weight: (batch,) or None.
        Raises: ValueError: the shapes do not fit.
        """
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_shapes(y_true, y_pred)
        hard, _ = split_halves(ops.cast(y_true, "float32"), y_pred.shape[-1])  # (batch, classes)
        known = ops.equal(hard, hard)  # False for NaN
        annotated = ops.cast(ops.all(known, axis=-1), "float32")  # (batch,)
        if sample_weight is not None:
            annotated = annotated * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        self.metric.update_state(ops.where(known, hard, 0.0), y_pred, sample_weight=annotated)

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
    """

    def __init__(
        self,
        activation: Literal["sigmoid", "softmax"] = "softmax",
        from_logits: bool = False,
        name: str = "teacher",
        dtype: Any = None,
    ):
        """Choose how outputs are read.

        Args:
          activation: of the teacher.
          from_logits: whether the student's outputs are logits.
          name: results are `<name>_agreement` and `<name>_kl`.
          dtype: Keras's own.
        Raises: ValueError: unknown activation.
        """
        check_arguments("TeacherAgreement", activation, 1.0, 0.0, 0.0)
        super().__init__(name=name, dtype=dtype)
        self.activation, self.from_logits = activation, bool(from_logits)
        self.agreement = keras.metrics.Mean(name="agreement")
        self.kl = keras.metrics.Mean(name="kl")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> None:
        """Compare the soft half with the outputs.

        Args:
          y_true: (batch, 2 * classes) packed, or (batch, classes) hard, which is skipped.
          y_pred: (batch, classes).
          sample_weight: (batch,) or None.
        Raises: ValueError: the shapes do not fit.
        """
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_shapes(y_true, y_pred)
        _, soft = split_halves(ops.cast(y_true, "float32"), y_pred.shape[-1])
        if soft is None:
            return
        student = ops.cast(y_pred, "float32")
        covered = ops.equal(soft, soft)  # (batch, classes), False for NaN
        soft = ops.where(covered, soft, 0.0)
        count = ops.sum(ops.cast(covered, "float32"), axis=-1)  # (batch,)
        told = ops.logical_and(count >= 2.0, ops.sum(soft, axis=-1) > 0.0) if self._exclusive else count >= 2.0
        weight = ops.cast(told, "float32")
        if sample_weight is not None:
            weight = weight * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        same = ops.equal(_top(soft, covered), _top(student, covered))  # (batch,)
        self.agreement.update_state(ops.cast(same, "float32"), sample_weight=weight)
        self.kl.update_state(self._divergence(soft, covered, count, student), sample_weight=weight)

    @property
    def _exclusive(self):
        """Whether a row is one distribution."""
        return self.activation == "softmax"

    def _divergence(self, soft, covered, count, student):
        """(batch,) KL to the teacher at T = 1."""
        if self._exclusive:
            return softmax_divergence(soft, covered, student, temperature=1.0, from_logits=self.from_logits)
        kl = sigmoid_divergence(soft, student, temperature=1.0, from_logits=self.from_logits)  # (batch, classes)
        return ops.sum(ops.where(covered, kl, 0.0), axis=-1) / ops.maximum(count, 1.0)

    def result(self) -> dict[str, Any]:
        """Both numbers by name."""
        return {f"{self.name}_agreement": self.agreement.result(), f"{self.name}_kl": self.kl.result()}

    def reset_state(self) -> None:
        """Start over."""
        self.agreement.reset_state()
        self.kl.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Every argument."""
        return {**super().get_config(), "activation": self.activation, "from_logits": self.from_logits}


def _top(values, covered):
    """(batch, classes) -> (batch,) index of the largest among the covered classes."""
    return ops.argmax(ops.where(covered, values, -3e38), axis=-1)
