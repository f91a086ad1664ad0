"""A Keras model on PyTorch, as it is."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from softlabels.errors import TeacherError


@contextlib.contextmanager
def torch_device(device: str) -> Iterator[str]:
    """Make PyTorch ready; yields the device's name.

    One thread, or on a GPU deterministic kernels without TF32; all of this for the whole process. A kernel that has no
    deterministic form is used with a warning.

    Raises: TeacherError: it is not there.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without, sums may differ
    import torch

    if device != "cpu":
        if not torch.cuda.is_available():
            raise TeacherError(
                f"--device {device}: expected a GPU that PyTorch can use, got only: cpu; install PyTorch's build for "
                "your CUDA"
            )
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False  # the quickest algorithm would be chosen by the clock
    torch.set_num_threads(1)
    yield device


def torch_pass(model: Any, device: str) -> Callable[[np.ndarray, tuple[int, ...]], list[np.ndarray]]:
    """One pass of a Keras model, without gradients."""
    import keras
    import torch

    name, place = ("cpu:0", "cpu") if device == "cpu" else ("gpu:0", "cuda:0")
    model.to(place)  # a layer with a state of whole numbers, such as Dropout, cannot be made inside `keras.device`

    def forward(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        with torch.inference_mode(), keras.device(name):
            windows = torch.from_numpy(np.require(batch, requirements="W")).to(place)
            answers = keras.tree.flatten(model(windows, training=False))
            return [answers[i].cpu().numpy() for i in wanted]

    return forward


def torch_place(device: str) -> str:
    """What a device is, for receipts."""
    import torch

    return f"PyTorch {torch.__version__} on {device if device == 'cpu' else torch.cuda.get_device_name(0)}"


def is_out_of_memory(error: Exception) -> bool:
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(text in str(error) for text in words)
