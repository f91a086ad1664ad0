"""Samples as they are kept: float32, or whole numbers of 16 bits with an exponent for each block of 4,096.

    sample = number * 2 ** exponent        of a block whose exponent has 1024 added, -32768 is NaN

The exponent is the smallest at which the loudest sample of the block fits. So nothing is ever clipped, a quiet night
keeps 15 bits or more of its own range, and what a file of 16 bits holds comes back to the bit.
"""

from typing import Literal

import numpy as np

BLOCK = 4096
SampleFormat = Literal["int16", "float32"]
DTYPES: dict[SampleFormat, np.dtype] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
LOWEST = -126  # exponent of the smallest normal float32
_SPOILED, _NAN = 1024, -32768


def to_int16(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, BLOCK) float32 -> (n, BLOCK) int16 and (n,) int16 exponents; what is not finite becomes NaN.

    Example:
      >>> to_int16(np.float32([[0.5, -1, 3 / 32768, 0]]))
      (array([[ 16384, -32768,      3,      0]], dtype=int16), array([-15], dtype=int16))
    """
    high, low = blocks.max(axis=1), blocks.min(axis=1)
    spoiled = ~np.isfinite(high) | ~np.isfinite(low)
    if spoiled.any():
        return _spoiled_to_int16(blocks, spoiled)
    return _numbers(blocks, high, low)


def _numbers(blocks: np.ndarray, high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mantissa, exponent = np.frexp(np.maximum(high / np.float32(32767), low / np.float32(-32768)))
    exponent = np.maximum(exponent - (mantissa == 0.5), LOWEST)  # of a power of two frexp gives the next one
    scaled = blocks * np.ldexp(np.float32(1), -exponent)[:, None]
    return np.rint(scaled, out=scaled).astype(np.int16), exponent.astype(np.int16)


def _spoiled_to_int16(blocks: np.ndarray, spoiled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    finite = np.isfinite(blocks)
    blocks = np.where(finite, blocks, np.float32(0))
    peak = np.abs(blocks).max(axis=1)  # of a block with NaN, -32768 is no number
    low = np.where(spoiled, np.float32(0), blocks.min(axis=1))
    numbers, exponent = _numbers(blocks, np.where(spoiled, peak, blocks.max(axis=1)), low)
    numbers[~finite] = _NAN
    return numbers, np.where(spoiled, exponent + _SPOILED, exponent).astype(np.int16)


def from_int16(numbers: np.ndarray, exponents: np.ndarray, first: int, out: np.ndarray) -> None:
    """Put samples as float32 where they belong.

    Args:
      numbers: (n,) int16. exponents: of the blocks that they lie in. first: where in its block the first one lies.
      out: (n,) float32.
    """
    out[...] = numbers
    spoiled = exponents > _SPOILED // 2
    scale = np.ldexp(np.float32(1), np.where(spoiled, exponents - _SPOILED, exponents))  # (blocks,) float32, exact
    head = min(BLOCK - first, len(out))
    blocks = (len(out) - head) // BLOCK
    middle = out[head : head + blocks * BLOCK].reshape(blocks, BLOCK)
    out[:head] *= scale[0]
    middle *= scale[1 : 1 + blocks, None]
    out[head + blocks * BLOCK :] *= scale[-1]
    if spoiled.any():
        block = (np.arange(len(out)) + first) // BLOCK
        out[(numbers == _NAN) & spoiled[block]] = np.nan
