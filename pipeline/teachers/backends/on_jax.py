"""A Keras model on JAX: compiled once a batch shape, its weights on the device."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from softlabels.errors import TeacherError

# Read when JAX starts. On a GPU, sums in an order of their own; and memory as it is needed, not three quarters of it.
FLAGS = "--xla_gpu_deterministic_ops=true"


@contextlib.contextmanager
def jax_device(device: str) -> Iterator[str]:
    """Inside the block, JAX works on a device; yields its name. Raises: TeacherError: it is not there."""
    if FLAGS not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    try:
        place = jax.devices(device)[0]
    except RuntimeError as e:
        there = ", ".join(sorted({found.platform for found in jax.devices()}))
        raise TeacherError(
            f"--device {device}: expected a GPU that JAX can use, got only: {there}; `pip install 'jax[cuda13]'` "
            "brings it"
        ) from e
    with jax.default_device(place):
        yield device


def jax_pass(model: Any, device: str) -> Callable[[np.ndarray, tuple[int, ...]], list[np.ndarray]]:
    """One pass of a Keras model, in full float32: the 10 bits of TF32 would be further off than D0 allows."""
    import jax
    import keras

    place = jax.devices(device)[0]
    values = [[each.value for each in some] for some in (model.trainable_variables, model.non_trainable_variables)]
    weights = jax.device_put(values, place)

    @functools.cache
    def compiled(wanted: tuple[int, ...]) -> Any:
        def call(weights: Any, batch: Any) -> list[Any]:
            answers = keras.tree.flatten(model.stateless_call(*weights, batch, training=False)[0])
            return [answers[i] for i in wanted]

        return jax.jit(call)

    def forward(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        with jax.default_matmul_precision("highest"):
            return [np.asarray(answer) for answer in compiled(wanted)(weights, jax.device_put(batch, place))]

    return forward


def jax_place(device: str) -> str:
    """What a device is, for receipts."""
    import jax

    return f"JAX {jax.__version__} on {jax.devices(device)[0].device_kind}"


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
