"""What the distillation loss refuses or warns of: arguments, shapes, coarse probabilities; for Keras and PyTorch alike.

It needs neither of them. Not here: the checks of a student loss (student_loss.py) and of targets in NumPy (targets.py).
"""

import logging
import math
from typing import Any

import numpy as np

MIN_MASS = 0.1  # a softmax row of which the student's classes hold less than a tenth says too little
logger = logging.getLogger(__name__)


def check_arguments(who: str, activation: Any, temperature: Any, alpha: Any, min_mass: Any) -> None:
    """Raise ValueError for what no loss can be built from; an alpha that is a tensor is not looked at."""
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(
            f"{who}: expected activation 'sigmoid' or 'softmax'; got {activation!r}; use the store's activation"
        )
    if not 0.0 < temperature < math.inf:  # False for NaN too
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


def check_shapes(who: str, y_true: Any, y_pred: Any) -> None:
    """Raise ValueError unless the targets are C or 2C wide, one row for each row of the outputs, and real."""
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    named = f"got y_true {true} {y_true.dtype} and y_pred {pred} {y_pred.dtype}"
    for dtype in (str(y_true.dtype), str(y_pred.dtype)):
        if not any(kind in dtype for kind in ("float", "int", "bool")):
            raise ValueError(f"{who}: expected real numbers; {named}; cast them to float32")
    if len(true) != 2 or len(pred) != 2:
        raise ValueError(f"{who}: expected rank 2 on both sides; {named}; flatten to (batch, classes)")
    if pred[1] is None or true[1] not in (None, pred[1], 2 * pred[1]):
        raise ValueError(
            f"{who}: expected y_true as wide as y_pred (hard labels) or twice as wide ([hard | soft]); "
            f"{named}; make it with pack_targets(hard, soft)"
        )
    if None not in (true[0], pred[0]) and true[0] != pred[0]:
        raise ValueError(f"{who}: expected one target row per output row; {named}; check the batching")


def label_settings(who: str, labels: Any, alpha: float | None, temperature: float | None) -> dict[str, Any]:
    """What joined labels say of the loss they are learned with: activation and trust, and alpha 0.3 and T = 1.

    Raises: ValueError: trust and class list differ in length.
    """
    trust = labels.class_trust
    if trust is not None and len(trust) != len(labels.classes):
        raise ValueError(
            f"{who}: expected one trust per class, {len(labels.classes)}; got {len(trust)}; join the labels again"
        )
    return {
        "activation": labels.activation,
        "alpha": 0.3 if alpha is None else alpha,
        "temperature": 1.0 if temperature is None else temperature,
        "trust": trust,
    }


def warn_of_half_precision(who: str, dtype: Any) -> bool:
    """Warn of probabilities that soon round to 0 or 1, where no loss has a gradient; whether it did."""
    name = next((name for name in ("bfloat16", "float16") if name in str(dtype)), None)
    if name is None:
        return False
    logger.warning(
        "%s: expected logits or a float32 output; got probabilities in %s, of which those that round to "
        "0 or 1 get no gradient, so a student that is sure and wrong stays so; give logits with from_logits=True, or "
        "the last layer float32",
        who,
        name,
    )
    return True
