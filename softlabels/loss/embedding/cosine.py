"""The embedding loss of Keras. Not here: its arithmetic (rows.py), the head that it is for (head.py)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from softlabels.loss.embedding.rows import check_weight, check_widths, embedding_rows


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
        check_weight("EmbeddingLoss", weight)
        self.weight = float(weight)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        """Keras's own call, after the embeddings have been checked against the outputs. Raises: ValueError."""
        y_true = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
        y_pred = y_pred if hasattr(y_pred, "shape") else np.asarray(y_pred)
        check_widths("EmbeddingLoss", y_true, y_pred)
        return super().__call__(y_true, y_pred, sample_weight=sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(batch, width) twice -> (batch,)."""
        return self.weight * embedding_rows(ops, y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Every argument as plain values."""
        return {**super().get_config(), "weight": self.weight}
