"""The loss against the human label: how it is found, checked, and called class by class.

Any Keras loss will do whose row value is the mean over the classes (sigmoid) or that gives one value per row (softmax),
with one weight per class too. Not here: how such weights are found (class_weights.py), the mixture with the teacher
(distillation.py).
"""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from softlabels.loss.backends import at_once
from softlabels.loss.class_weights import weight_lengths, with_weights
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
        super().__init__(name=getattr(function, "__name__", "student_loss"), reduction=None, dtype="float32")
        self.function, self.arguments = function, arguments

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred, **self.arguments)


def with_lists(config: Any) -> Any:
    """A serialised loss with lists for its arrays and tensors, which Keras writes but its losses do not read back."""
    if not isinstance(config, dict):
        return config
    if config.get("class_name") in ("__numpy__", "__tensor__"):
        return config["config"]["value"]
    return {name: with_lists(value) for name, value in config.items()}


def hard_loss(student_loss: keras.losses.Loss, hard: Any, student: Any, *, activation: Activation, turned: bool) -> Any:
    """The student loss of each class on its own, of which its row value is the mean (sigmoid), or of each row.

    Args:
      hard, student: (batch, classes) float32, no NaN.
      turned: whether one weight per class is made a tensor that fits; `check_student_loss` says so.
    Returns: (batch, classes) under sigmoid, (batch,) under softmax.
    """
    loss, by_class = student_loss, activation == "sigmoid"
    if by_class and type(loss) is keras.losses.BinaryCrossentropy and loss.axis in (-1, 1):
        # What Keras does before its mean, bit for bit: one pass over (batch, classes), and the outputs keep the
        # logits that Keras's TensorFlow sigmoid remembers, which a trailing axis would lose.
        smoothing = loss.label_smoothing
        hard = hard * (1.0 - smoothing) + 0.5 * smoothing if smoothing else hard
        if loss.from_logits and keras.backend.backend() == "jax":
            # On JAX Keras computes two logarithms of sums here, and all of the loss takes half as long again.
            return ops.maximum(student, 0.0) - hard * student + ops.log1p(ops.exp(-ops.abs(student)))
        return ops.binary_crossentropy(hard, student, from_logits=loss.from_logits)
    if turned:
        loss = with_weights(loss, hard.shape[-1], column=by_class)
    # (batch, classes, 1) -> (batch, classes), or (batch, classes) -> (batch,)
    return loss.call(hard[..., None], student[..., None]) if by_class else loss.call(hard, student)


def check_any_width(loss: keras.losses.Loss, activation: Activation, from_logits: bool) -> None:
    """Try a student loss before the number of classes is known: on as many as it holds weights for, or on three.

    Raises: ValueError: the loss fits none of these.
    """
    faults = []
    for classes in (*sorted(weight_lengths(loss)), 3):
        try:
            check_student_loss(loss, activation, from_logits, classes)
            return
        except ValueError as error:
            faults.append(error)
    raise faults[0]


def check_student_loss(loss: keras.losses.Loss, activation: Activation, from_logits: bool, classes: int) -> bool:
    """Try a student loss on four rows, at once where a backend is tracing too.

    "sigmoid" needs a row value that is the mean over the classes, "softmax" one value per row.

    Returns: `turned` of `hard_loss`: whether its weights have to be made tensors that fit.
    Raises: ValueError: the loss does not fit.
    """
    ways = [False]
    if classes in weight_lengths(loss):  # the surest way first; under softmax the plain one is as sure
        ways = [True, False] if activation == "sigmoid" else [False, True]
    faults = []
    for turned in ways:
        try:
            at_once(partial(_check, loss, activation, from_logits, classes, turned))
            return turned
        except ValueError as error:
            faults.append(error)
    raise faults[0]


def _check(loss: keras.losses.Loss, activation: Activation, from_logits: bool, classes: int, turned: bool) -> None:
    """Raise ValueError unless the loss, with its weights turned or not, gives what `check_student_loss` asks for."""
    rng = np.random.default_rng(classes)
    hard = (rng.random((4, classes)) < 0.5).astype(np.float32)
    hard[:, rng.integers(classes)] = 1  # no row without a class
    student = rng.uniform(0.05, 0.95, (4, classes)).astype(np.float32)
    targets = ops.convert_to_tensor(hard)
    outputs = ops.convert_to_tensor(np.log(student / (1 - student)) if from_logits else student)
    who = f"DistillationLoss: student_loss {loss.name!r}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # Keras warns about a trailing axis of one
        rows = _try(lambda: _rows(loss, targets, outputs, turned), who, classes)
        if rows.shape != (4,):
            raise ValueError(
                f"{who}: expected one value per row, shape (4,) for four rows; got {rows.shape}; "
                "its call() must not reduce over the batch"
            )
        if activation == "softmax":
            return
        got = _try(lambda: hard_loss(loss, targets, outputs, activation=activation, turned=turned), who, classes)
    if got.shape != hard.shape or not np.allclose(got.mean(axis=1, dtype=np.float64), rows, rtol=1e-5, atol=1e-7):
        raise ValueError(
            f"{who}: expected a loss that is the mean of its classes' losses, as activation='sigmoid' needs; got row "
            f"{rows[0]:.6g} from {classes} classes {got[0].ravel()[:5].tolist()}...; use binary cross-entropy, or "
            "activation='softmax'; one weight per class belongs in an attribute of the loss or in what its function "
            "closes over"
        )


def _rows(loss: keras.losses.Loss, targets: Any, outputs: Any, turned: bool) -> Any:
    """The row values of the loss as it is; where it fails and may be `turned`, with its weights as tensors."""
    try:
        return loss.call(targets, outputs)
    except Exception:
        if not turned:
            raise
        return with_weights(loss, targets.shape[-1], column=False).call(targets, outputs)


def _try(call: Callable[[], Any], who: str, classes: int) -> np.ndarray:
    """NumPy result of a trial call; any failure becomes a ValueError that names the loss."""
    try:
        return ops.convert_to_numpy(call())
    except Exception as error:
        raise ValueError(
            f"{who}: expected a loss of (batch, classes) targets and outputs; got {type(error).__name__} with "
            f"{classes} classes: {error}; use a cross-entropy, or one weight for each of the student's classes"
        ) from error
