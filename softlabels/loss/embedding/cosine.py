"""The embedding loss: one minus the cosine between a teacher's embedding of a row and what a student makes of it.

    L = weight * (1 - cos(t, p)) = weight / 2 * |t / |t| - p / |p||^2          0 where there is nothing to compare

Cosine, for how long an embedding is says more of how loud than of what. Not here: the head that gives p (head.py).
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops


def embedding_rows(embedding: Any, student: Any) -> Any:
    """One minus the cosine of each row, 0 where the teacher's is not finite or one of them is all zeros.

    Written as half the squared distance of unit vectors, which is exact where they are close. Each row is divided by
    its largest number first, so that no square overflows or vanishes.

    Args:
      embedding: (batch, width) float; NaN where the teacher gave none.
      student: (batch, width) float.
    Returns: (batch,) float32, from 0 to 2.
    """
    embedding, student = ops.cast(embedding, "float32"), ops.cast(student, "float32")
    known = ops.all(ops.isfinite(embedding), axis=-1, keepdims=True)  # (batch, 1)
    theirs, is_any = _unit(ops.where(known, embedding, 0.0))
    ours, ours_is_any = _unit(student)
    halves = 0.5 * ops.sum(ops.square(theirs - ours), axis=-1)  # (batch,)
    return ops.where(ops.squeeze(ops.logical_and(is_any, ours_is_any), -1), halves, 0.0)


def _unit(values: Any) -> tuple[Any, Any]:
    """(batch, width) rows of length 1, and (batch, 1) whether there is any number but 0; a row of zeros stays one."""
    largest = ops.stop_gradient(ops.max(ops.abs(values), axis=-1, keepdims=True))  # a cosine knows no scale
    is_any = ops.not_equal(largest, 0.0)  # True for NaN: a student that has diverged shows
    scaled = values / ops.where(is_any, largest, 1.0)
    square = ops.sum(ops.square(scaled), axis=-1, keepdims=True)
    return scaled / ops.sqrt(ops.where(is_any, square, 1.0)), is_any


@keras.saving.register_keras_serializable(package="softlabels")
class EmbeddingLoss(keras.losses.Loss):
    """One minus the cosine to the teacher's embedding, weightable, serialisable, on every Keras backend.

    Rows whose embedding is not finite (the teacher gave none) or all zeros count 0, as does a student's row of zeros.
    `softlabels.with_embedding_head` gives a student the output that it is for.

        model.compile("adam", loss={"labels": distillation, "embedding": softlabels.EmbeddingLoss(0.2)})

    Example:
      >>> softlabels.EmbeddingLoss(weight=0.2)(np.float32([[3, 4], [np.nan, 0]]), np.float32([[4, -3], [1, 1]])).shape
      TensorShape([])
    """

    def __init__(
        self, weight: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str = "embedding_loss"
    ) -> None:
        """Check the weight now.

        Args:
          weight: what each row's loss is multiplied by, 0 or more.
          reduction, name: Keras's own.
        Raises: ValueError: a weight that is negative, infinite or NaN.
        """
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"EmbeddingLoss: expected a finite weight of 0 or more; got {weight}; 1 changes nothing")
        self.weight = float(weight)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        """Keras's own call, after the embeddings have been checked against the outputs. Raises: ValueError."""
        y_true = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
        y_pred = y_pred if hasattr(y_pred, "shape") else np.asarray(y_pred)
        true, pred = tuple(y_true.shape), tuple(y_pred.shape)
        known = [n for n in (*true[1:], *pred[1:]) if n is not None]
        if len(true) != 2 or len(pred) != 2 or len(set(known)) > 1:
            raise ValueError(
                f"EmbeddingLoss: expected embeddings and outputs of one width, (batch, width); got {true} and {pred}; "
                "make the head with width=labels.embedding_width, the data with embedding=True"
            )
        return super().__call__(y_true, y_pred, sample_weight=sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(batch, width) twice -> (batch,)."""
        return self.weight * embedding_rows(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Every argument as plain values."""
        return {**super().get_config(), "weight": self.weight}
