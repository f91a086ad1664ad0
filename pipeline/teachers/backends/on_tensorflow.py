"""A model on TensorFlow: one graph a batch shape."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from softlabels.errors import TeacherError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def tensorflow_device(device: str | None) -> Iterator[str]:
    """Make TensorFlow ready, and inside the block place everything on a device; yields its TensorFlow name.

    Raises: TeacherError: it is not there.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what goes wrong comes as an exception
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    on_gpu = device in ("gpu", "cuda")
    if on_gpu and not gpus:
        there = ", ".join(sorted({found.device_type.lower() for found in tf.config.list_physical_devices()}))
        raise TeacherError(f"--device {device}: expected a GPU that TensorFlow can use, got only: {there}")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)  # else the first process takes all of it
    except RuntimeError:
        logger.warning("TensorFlow was already in use and keeps its threads: labels may differ in their last bits")
    if on_gpu:
        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)  # 10 bits would be further off than D0 allows
    name = "/GPU:0" if on_gpu else "/CPU:0"
    with tf.device(name):
        yield name


def tensorflow_pass(call: Callable, device: str) -> Callable[[np.ndarray, tuple[int, ...]], list[np.ndarray]]:
    """One compiled graph a batch shape and choice of outputs, without what only the others need."""
    import tensorflow as tf

    @functools.cache
    def graph(wanted: tuple[int, ...]) -> Any:
        return tf.function(lambda batch: call(batch, wanted), autograph=False, reduce_retracing=False)

    def forward(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        with tf.device(device):
            return [np.asarray(answer) for answer in graph(wanted)(tf.constant(batch))]

    return forward


def tensorflow_place(device: str) -> str:
    """What a device is, for receipts."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU") if "GPU" in device else []
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    return f"TensorFlow {tf.__version__} on {details.get('device_name', device.strip('/'))}"


def is_out_of_memory(error: Exception) -> bool:
    import tensorflow as tf

    return isinstance(error, tf.errors.ResourceExhaustedError | MemoryError) or "CUDA_ERROR_OUT_OF_MEMORY" in str(error)
