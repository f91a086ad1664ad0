"""The loss against the human label: how it is found, checked, and called class by class.

Any Keras loss will do whose row value is the mean over the classes (sigmoid) or that gives one value per row (softmax).
Not here: the mixture with the teacher (distillation.py).
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from softlabels.loss.targets import Activation


def resolve_student_loss(given: Any, activation: Activation, from_logits: bool) -> keras.losses.Loss:
    """A Keras loss object from what a caller may pass.

    Args:
      given: a loss, a loss function, a name, a config, or None for the cross-entropy that fits the activation.
      from_logits: inherited by names, functions and None; an object or a config must agree with it.
    Returns: the loss; its reduction is never used.
    Raises: ValueError: unknown name, or an object that disagrees about `from_logits`.
    """
    if given is None:
        cross_entropy = {"sigmoid": "BinaryCrossentropy", "softmax": "CategoricalCrossentropy"}[activation]
        return getattr(keras.losses, cross_entropy)(from_logits=from_logits)
    if isinstance(given, str):
        return _inherit(keras.losses.get(given), from_logits)
    loss = keras.losses.get(given)
    if not isinstance(loss, keras.losses.Loss):
        return _inherit(loss, from_logits)
    own = loss.get_config().get("from_logits", from_logits)
    if bool(own) != from_logits:
        raise ValueError(
            f"DistillationLoss: expected a student_loss with from_logits={from_logits}, as the loss itself has; "
            f"got {type(loss).__name__} with from_logits={own}; set both alike"
        )
    return loss


def _inherit(found: Any, from_logits: bool) -> keras.losses.Loss:
    """A loss object from a bare loss or loss function, with `from_logits` where it has such an argument."""
    if isinstance(found, keras.losses.Loss):
        config = found.get_config()
        return type(found).from_config({**config, "from_logits": from_logits} if "from_logits" in config else config)
    takes_it = "from_logits" in inspect.signature(found).parameters
    return _FunctionLoss(found, {"from_logits": from_logits} if takes_it else {})


class _FunctionLoss(keras.losses.Loss):
    """A loss function as a loss object."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        super().__init__(name=function.__name__, reduction=None, dtype="float32")
        self.function, self.arguments = function, arguments

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred, **self.arguments)


def hard_loss_per_class(student_loss: keras.losses.Loss, hard: Any, student: Any) -> Any:
    """The student loss of each class on its own, of which its row value is the mean; no NaN.

    (batch, classes) twice -> (batch, classes), all float32.
    """
    if type(student_loss) is keras.losses.BinaryCrossentropy and student_loss.axis in (-1, 1):
        # What Keras does before its mean, bit for bit: one pass over (batch, classes), and the outputs keep the
        # logits that Keras's TensorFlow sigmoid remembers, which a trailing axis would lose.
        smoothing = student_loss.label_smoothing
        hard = hard * (1.0 - smoothing) + 0.5 * smoothing if smoothing else hard
        return ops.binary_crossentropy(hard, student, from_logits=student_loss.from_logits)
    return student_loss.call(hard[..., None], student[..., None])  # (batch, classes, 1) -> (batch, classes)


def check_student_loss(loss: keras.losses.Loss, activation: str, from_logits: bool) -> None:
    """Try a student loss on two rows of three classes.

    "sigmoid" needs a row value that is the mean over the classes, "softmax" one value per row.

    Raises: ValueError: the loss does not fit.
    """
    hard = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    student = np.array([[0.3, 0.5, 0.2], [0.1, 0.3, 0.6]], np.float32)
    targets, outputs = ops.convert_to_tensor(hard), ops.convert_to_tensor(np.log(student) if from_logits else student)
    who = f"DistillationLoss: student_loss {loss.name!r}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # Keras warns about a trailing axis of one
        rows = _try(lambda: loss.call(targets, outputs), who)
        if rows.shape != (2,):
            raise ValueError(
                f"{who}: expected one value per row, shape (2,) for two rows; got {rows.shape}; "
                "its call() must not reduce over the batch"
            )
        if activation == "softmax":
            return
        classes = _try(lambda: hard_loss_per_class(loss, targets, outputs), who)
    if classes.shape != (2, 3) or not np.allclose(classes.mean(axis=1), rows, rtol=1e-5, atol=1e-7):
        raise ValueError(
            f"{who}: expected a loss that is the mean of its classes' losses, as activation='sigmoid' needs; got rows "
            f"{rows.tolist()} from classes {classes.tolist()}; use binary cross-entropy, or activation='softmax'"
        )


def _try(call: Callable[[], Any], who: str) -> np.ndarray:
    """NumPy result of a trial call; any failure becomes a ValueError that names the loss."""
    try:
        return ops.convert_to_numpy(call())
    except Exception as error:
        raise ValueError(
            f"{who}: expected a loss of (batch, classes) targets and outputs; got {type(error).__name__}: {error}; "
            "use a cross-entropy"
        ) from error
