"""The checksums inside audio files, fast: all of them are remainders, so pieces can be computed apart and joined."""

import functools
import zlib

import numpy as np

_BITS = np.array([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], np.uint8)
BITS_REVERSED = _BITS.tobytes()  # for bytes.translate


def ogg_crc(*parts: bytes) -> int:
    """CRC-32 of polynomial 0x04c11db7, most significant bit first, from 0: zlib's, with the bits of all bytes reversed.

    Source: RFC 3533, section 6.
    """
    state = 0xFFFFFFFF  # zlib inverts at both ends
    for part in parts:
        state = zlib.crc32(part.translate(BITS_REVERSED), state)
    return int.from_bytes((state ^ 0xFFFFFFFF).to_bytes(4, "little").translate(BITS_REVERSED), "big")


def crc16(data: np.ndarray, *, first: int = 0) -> np.ndarray:
    """CRC-16 of polynomial 0x8005, least significant bit first, of each row.

    Two bytes are looked up at once; then neighbours are joined, in pairs, until one is left.

    Args:
      data: (..., bytes) uint8.
      first: the checksum of what came before.
    Returns: (...) uint16.
    """
    length = max(2, data.shape[-1] + data.shape[-1] % 2)
    padded = np.zeros((*data.shape[:-1], length), np.uint8)  # zeros in front change nothing, where the rest begins at 0
    padded[..., length - data.shape[-1] :] = data
    if first:
        start = length - data.shape[-1]
        padded[..., start] ^= first & 0xFF
        padded[..., start + 1] ^= first >> 8
    codes = _after(0)[padded.view("<u2")]
    level = 0
    while codes.shape[-1] > 1:
        if codes.shape[-1] % 2:
            codes = np.concatenate([np.zeros_like(codes[..., :1]), codes], axis=-1)
        codes = _after(level)[codes[..., 0::2]] ^ codes[..., 1::2]
        level += 1
    return codes[..., 0]


def crc16_msb(data: np.ndarray, *, first: int = 0) -> np.ndarray:
    """As `crc16`, most significant bit first: what the frames of MP3 and FLAC have."""
    return _reversed(crc16(_BITS[data], first=int(_reversed(np.array([first], np.uint16))[0])))


def _reversed(codes: np.ndarray) -> np.ndarray:
    return _BITS[codes >> 8].astype(np.uint16) | (_BITS[codes & 0xFF].astype(np.uint16) << 8)


@functools.cache
def _after(level: int) -> np.ndarray:
    """(65536,) uint16: what a checksum becomes when 2^level words of zeros follow."""
    if level:
        return _after(level - 1)[_after(level - 1)]
    codes: np.ndarray = np.arange(1 << 16, dtype=np.uint16)
    for _ in range(16):
        codes = (codes >> 1) ^ np.where(codes & 1, np.uint16(0xA001), np.uint16(0))
    return codes
