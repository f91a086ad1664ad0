"""A model that is loaded: its inputs and outputs as it declares them, and one forward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Shape = tuple[int | None, ...]  # None where the model leaves it open; empty where it leaves the rank open
FACTORY = "a model that wants anything else, such as spectrograms, is a `--teacher module:factory`"


class Tensor(NamedTuple):
    """An input or output of a model, as it declares it."""

    dtype: str
    shape: Shape
    name: str = ""

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        sizes += "," if len(self.shape) == 1 else ""
        return f"{self.name!r} " * bool(self.name) + f"{self.dtype} {f'({sizes})' if self.shape else 'of any shape'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model that is loaded and not yet tried.

    inputs, outputs: in the order in which the model lists them, which means nothing.
    forward: the input as its layout has it, float32, and the positions of some outputs -> those outputs.
    is_out_of_memory: whether an exception of `forward` says that the batch is too large for this machine.
    runs_on: what computes it, and on which device, for receipts.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    forward: Callable[[np.ndarray, tuple[int, ...]], list[np.ndarray]]
    is_out_of_memory: Callable[[Exception], bool] = lambda error: isinstance(error, MemoryError)
    runs_on: str = ""


def listed(inputs: Sequence[Tensor], outputs: Sequence[Tensor] = ()) -> str:
    """What a model has, to end an error with."""
    return f"inputs: {shown(inputs)}" + (f"; outputs: {shown(outputs)}" if outputs else "")


def shown(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(str, tensors)) or "none"
