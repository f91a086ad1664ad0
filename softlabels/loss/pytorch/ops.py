"""The operations that the losses are written in, on tensors of PyTorch; named and called as in `keras.ops`.

Those alone that divergence.py, mixture.py, embedding/rows.py and mixup need, as they need them.
"""

from typing import Any

import torch

abs, clip, log, log1p, sigmoid, sign = torch.abs, torch.clamp, torch.log, torch.log1p, torch.sigmoid, torch.sign
sqrt, square = torch.sqrt, torch.square
equal, not_equal, logical_and, isfinite = torch.eq, torch.ne, torch.logical_and, torch.isfinite
reshape, squeeze, zeros_like = torch.reshape, torch.squeeze, torch.zeros_like
_TYPES = {"float32": torch.float32, "int32": torch.int32}


def cast(x: Any, dtype: Any) -> Any:
    return torch.as_tensor(x).to(_TYPES.get(dtype, dtype))


def cast_like(x: Any, other: Any) -> Any:
    return torch.as_tensor(x).to(other)


convert_to_tensor = cast


def divide_no_nan(x: Any, y: Any) -> Any:
    return torch.where(y == 0, 0.0, x / y)


def softmax(x: Any) -> Any:
    return torch.softmax(x, dim=-1)


def stop_gradient(x: Any) -> Any:
    return x.detach()


def where(condition: Any, x: Any, y: Any) -> Any:
    if isinstance(x, float) and isinstance(y, float):  # of two numbers PyTorch makes its default type, not float32
        x = torch.full((), x, dtype=torch.float32, device=condition.device)
    return torch.where(condition, x, y)


def with_slope(value: Any, slope: Any, student: Any) -> Any:
    return _WithSlope.apply(student, value, slope)


class _WithSlope(torch.autograd.Function):
    """A value, (batch,), of which the derivative by the student, (batch, classes), is known."""

    @staticmethod
    def forward(context: Any, student: Any, value: Any, slope: Any) -> Any:
        context.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        (slope,) = context.saved_tensors
        return upstream[:, None] * slope, None, None


def maximum(x: Any, least: Any) -> Any:
    return torch.clamp(x, min=least)  # takes a tensor or a number, and keeps NaN


def minimum(x: Any, most: Any) -> Any:
    return torch.clamp(x, max=most)


def sum(x: Any, axis: int, keepdims: bool = False) -> Any:
    return torch.sum(x, dim=axis, keepdim=keepdims)


def mean(x: Any, axis: int) -> Any:
    return torch.mean(x, dim=axis)


def max(x: Any, axis: int, keepdims: bool = False) -> Any:
    return torch.amax(x, dim=axis, keepdim=keepdims)


def all(x: Any, axis: int, keepdims: bool = False) -> Any:
    return torch.all(x, dim=axis, keepdim=keepdims)


def roll(x: Any, shift: int, axis: int) -> Any:
    return torch.roll(x, shift, dims=axis)


def take(x: Any, rows: Any, axis: int) -> Any:
    return torch.index_select(x, axis, torch.as_tensor(rows, device=x.device))
