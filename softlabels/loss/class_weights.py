"""One weight per class inside a student loss: where such numbers are, and the same loss with them as tensors.

Under sigmoid a loss is called on (batch, classes, 1). Weights of shape (classes,) would meet that as (batch, classes,
classes), every class with every weight, without an error; so there they have to be (classes, 1). They are looked for in
the attributes of the loss, the arguments of a wrapped function, what a function closes over, its defaults, and the
globals it names. Nothing is changed in place, and tensors are made at each call, so that none outlives its graph.
Not here: whether the result is right, which student_loss.py tries out.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

_DEPTH = 8  # a loss, its attributes, the function in them, what that closes over, and as much again
_LIBRARIES = ("keras", "tensorflow", "jax", "torch", "numpy")  # whose functions hold no weights of anybody's


def weight_lengths(loss: Any) -> set[int]:
    """How many numbers each vector has that the loss holds, those of one number left out."""
    found: set[int] = set()

    def note(vector: Any) -> Any:
        found.add(_length(vector))
        return vector

    _changed(loss, note, _DEPTH)
    return found


def with_weights(loss: Any, classes: int, *, column: bool) -> Any:
    """The same loss with its vectors of `classes` numbers as float32 tensors; `column`: with a trailing axis of one."""

    def turn(vector: Any) -> Any:
        if _length(vector) != classes:
            return vector
        tensor = ops.cast(ops.convert_to_tensor(vector), "float32")
        return tensor[..., None] if column else tensor

    return _changed(loss, turn, _DEPTH)


def _length(thing: Any) -> int:
    """Numbers along the last axis of an array, a tensor, a variable or a list of numbers; 0 for anything else."""
    try:
        thing = np.asarray(thing) if isinstance(thing, list | tuple) else thing
        shape, kind = tuple(thing.shape), str(thing.dtype)
    except (AttributeError, TypeError, ValueError):  # no array, a ragged list, a tensor of unknown rank
        return 0
    numbers = "float" in kind or "int" in kind
    return shape[-1] if numbers and shape and isinstance(shape[-1], int) else 0


def _changed(thing: Any, change: Callable[[Any], Any], depth: int) -> Any:
    """`thing` with `change` done to each vector in it; the very same object where that changed nothing."""
    if _length(thing) > 1:
        return change(thing)
    parts = _parts(thing) if depth else {}
    new = {name: _changed(part, change, depth - 1) for name, part in parts.items()}
    return _rebuilt(thing, new) if any(new[name] is not part for name, part in parts.items()) else thing


def _parts(thing: Any) -> dict[Any, Any]:
    """What may hold weights, by name."""
    if isinstance(thing, dict):
        return thing
    if isinstance(thing, keras.losses.Loss):
        return {"attributes": vars(thing), "call": type(thing).call}
    if isinstance(thing, functools.partial):
        return {"func": thing.func, "args": dict(enumerate(thing.args)), "keywords": thing.keywords}
    if not isinstance(thing, types.FunctionType) or str(thing.__module__).partition(".")[0] in _LIBRARIES:
        return {}
    names, cells = thing.__code__.co_freevars, thing.__closure__ or ()
    return {
        "closure": {n: c.cell_contents for n, c in zip(names, cells, strict=True) if c != types.CellType()},
        "globals": {n: thing.__globals__[n] for n in thing.__code__.co_names if n in thing.__globals__},
        "defaults": dict(enumerate(thing.__defaults__ or ())),
        "keywords": thing.__kwdefaults__ or {},
    }


def _rebuilt(thing: Any, parts: dict[Any, Any]) -> Any:
    """The same kind of thing from other parts."""
    if isinstance(thing, dict):
        return parts
    if isinstance(thing, keras.losses.Loss):
        made = object.__new__(type(thing))  # Keras's own copy goes by way of the config, which not every loss has
        vars(made).update({"call": types.MethodType(parts["call"], made), **parts["attributes"]})
        return made
    if isinstance(thing, functools.partial):
        return functools.partial(parts["func"], *parts["args"].values(), **parts["keywords"])
    closed = parts["closure"]
    cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
    made = types.FunctionType(
        thing.__code__,
        {**thing.__globals__, **parts["globals"]},
        thing.__name__,
        tuple(parts["defaults"].values()),
        tuple(types.CellType(closed[name]) if name in closed else cell for name, cell in cells),
    )
    made.__kwdefaults__ = parts["keywords"]
    return made
