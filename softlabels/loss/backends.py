"""What a backend of Keras is doing: are values there to be looked at, and how to compute at once while it traces."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


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


def at_once(call: Callable[[], None]) -> None:
    """Run on real values, whatever the backend is tracing."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf  # installed, or the backend would not run

        with tf.init_scope():
            call()
    elif backend == "jax":
        import jax  # as above

        with jax.ensure_compile_time_eval():
            call()
    elif backend == "torch" and ops.convert_to_tensor(0.0).is_meta:  # Keras infers shapes on a device without values
        with keras.device("cpu"):
            call()
    else:
        call()
