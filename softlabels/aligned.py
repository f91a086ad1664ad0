"""Memory as TensorFlow wants it: an array that begins elsewhere is copied before it becomes a tensor."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

ALIGNMENT = 64  # bytes: what Eigen's widest instructions ask for; NumPy itself sees to 16


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray[Any, Any]:
    """`numpy.empty` of an array whose address ALIGNMENT divides."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)
