"""What the distillation loss refuses or warns of: arguments, shapes, values that can be known, coarse probabilities.

Not here: the checks of a student loss (student_loss.py) and of targets in NumPy (targets.py).
"""

import logging
import math
from typing import Any

import keras
import numpy as np

MIN_MASS = 0.1  # a softmax row of which the student's classes hold less than a tenth says too little
logger = logging.getLogger(__name__)


def check_arguments(who: str, activation: Any, temperature: Any, alpha: Any, min_mass: Any) -> None:
    """Raise ValueError for what no loss can be built from; an alpha that is a tensor is not looked at."""
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(
            f"{who}: expected activation 'sigmoid' or 'softmax'; got {activation!r}; use the store's activation"
        )
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"{who}: expected a finite temperature > 0; got {temperature}; 1 changes nothing")
    if isinstance(alpha, int | float | np.number) and not 0.0 <= alpha <= 1.0:  # False for NaN too
        raise ValueError(f"{who}: expected alpha in [0, 1]; got {alpha}; it is the weight of the teacher")
    if not 0.0 <= min_mass <= 1.0:
        raise ValueError(f"{who}: expected min_mass in [0, 1]; got {min_mass}; {MIN_MASS} is the default")


def check_trust(who: str, trust: Any) -> np.ndarray:
    """-> (classes,) float64; raise ValueError unless it is one number in [0, 1] per class."""
    values = np.asarray(trust, np.float64)
    if values.ndim != 1 or not ((values >= 0.0) & (values <= 1.0)).all():  # False for NaN too
        raise ValueError(
            f"{who}: expected trust as one number in [0, 1] per class; got shape {values.shape}, "
            f"values {np.unique(values)[:10].tolist()}; use labels.class_trust"
        )
    return values


def check_shapes(y_true: Any, y_pred: Any) -> None:
    """Raise ValueError unless the targets are C or 2C wide, one row for each row of the outputs, and real."""
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    named = f"got y_true {true} {y_true.dtype} and y_pred {pred} {y_pred.dtype}"
    for dtype in (str(y_true.dtype), str(y_pred.dtype)):
        if not any(kind in dtype for kind in ("float", "int", "bool")):
            raise ValueError(f"DistillationLoss: expected real numbers; {named}; cast them to float32")
    if len(true) != 2 or len(pred) != 2:
        raise ValueError(f"DistillationLoss: expected rank 2 on both sides; {named}; flatten to (batch, classes)")
    if pred[1] is None or true[1] not in (None, pred[1], 2 * pred[1]):
        raise ValueError(
            "DistillationLoss: expected y_true as wide as y_pred (hard labels) or twice as wide ([hard | soft]); "
            f"{named}; make it with pack_targets(hard, soft)"
        )
    if None not in (true[0], pred[0]) and true[0] != pred[0]:
        raise ValueError(f"DistillationLoss: expected one target row per output row; {named}; check the batching")


def values_if_known(y: Any) -> np.ndarray | None:
    """NumPy values of a concrete array; None while a backend traces or only infers shapes."""
    if isinstance(y, np.ndarray):
        return y
    if keras.backend.backend() == "jax":
        import jax  # installed, or the backend would not run

        return None if isinstance(y, jax.core.Tracer) else np.asarray(y)
    if keras.backend.backend() == "torch":
        import torch  # as above

        tracing = y.is_meta or torch.compiler.is_compiling()
        return None if tracing else y.detach().float().cpu().numpy()
    return y.numpy() if hasattr(y, "numpy") else None  # only eager TensorFlow tensors have it


def warn_of_half_precision(dtype: Any) -> bool:
    """Warn of probabilities that soon round to 0 or 1, where no loss has a gradient; whether it did."""
    name = keras.backend.standardize_dtype(dtype)
    if name not in ("float16", "bfloat16"):
        return False
    logger.warning(
        "DistillationLoss: expected logits or a float32 output; got probabilities in %s, of which those that round to "
        "0 or 1 get no gradient, so a student that is sure and wrong stays so; give logits with from_logits=True, or "
        "the last layer dtype='float32'",
        name,
    )
    return True
