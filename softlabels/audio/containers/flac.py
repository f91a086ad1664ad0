"""FLAC: frames with checksums that its decoder checks; and a header that may promise fewer than there are."""

from typing import BinaryIO

import numpy as np

from softlabels.audio.containers.checksums import crc16_msb
from softlabels.audio.containers.structure import Structure, damaged, exactly, truncated
from softlabels.errors import AudioError

TAIL = 1 << 17  # bytes in which the last frame is looked for
CANDIDATES = 1000  # places in them that may be its beginning
_RATES = dict(enumerate((88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000), 1))
_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
_SIZES = {1: 192} | {code + 2: 576 << code for code in range(4)} | {code + 8: 256 << code for code in range(8)}


def read_flac(file: BinaryIO) -> Structure:
    """Hold the total of the header against the number of the last frame.

    Raises: AudioError: truncated; contradictory: there are more.
    """
    end = file.seek(0, 2)
    file.seek(4)
    head = file.read(38)
    if len(head) < 38 or head[0] & 127:
        return Structure()
    block, packed = int.from_bytes(head[4:6], "big"), int.from_bytes(head[14:22], "big")
    promised, bits, rate_hz = packed & (1 << 36) - 1, (packed >> 36 & 31) + 1, packed >> 44
    file.seek(max(42, end - TAIL))
    tail = file.read()
    found = _last_frame(tail, block)
    if found is None or not promised:  # damage is the decoder's to find: it checks every frame
        return Structure()
    there, its_rate_hz, its_bits = found
    if its_rate_hz not in (0, rate_hz) or its_bits not in (0, bits):
        raise damaged(f"its header says {rate_hz} Hz and {bits} bits, its last frame {its_rate_hz} Hz, {its_bits} bits")
    if there < promised:
        raise truncated(promised, there, "frames")
    if there > promised:
        raise AudioError(f"contradictory: the header promises {promised} frames, the file has {there}")
    return exactly(promised)


def _last_frame(tail: bytes, block: int) -> tuple[int, int, int] | None:
    """What the last frame says: one whose checksum reaches exactly to the end."""
    at = len(tail)
    for _ in range(CANDIDATES):
        at = tail.rfind(b"\xff", 0, at)
        if at < 0:
            return None
        if tail[at + 1 : at + 2] not in (b"\xf8", b"\xf9") or len(tail) - at < 8:
            continue
        found = _frame(tail[at : at + 16].ljust(16), block)
        if found and crc16_msb(np.frombuffer(tail[at:-2], np.uint8)) == int.from_bytes(tail[-2:], "big"):
            return found
    return None


def _frame(head: bytes, block: int) -> tuple[int, int, int] | None:
    """The sample after a frame, its rate and its bits (0: as the header says); None if this is no head of a frame."""
    ones = f"{head[4]:08b}1".index("0") if head[4] != 0xFF else 8  # a number, coded as UTF-8 codes letters
    if ones == 1 or ones > 7 or head[3] & 1:
        return None
    number, at = head[4] & (0x7F >> ones), 4 + max(1, ones)
    for byte in head[5:at]:
        number = number << 6 | byte & 0x3F
    size_code, rate_code = head[2] >> 4, head[2] & 15
    size = _SIZES.get(size_code, 0)
    if size_code in (6, 7):
        size, at = int.from_bytes(head[at : at + size_code - 5], "big") + 1, at + size_code - 5
    rate_hz = _RATES.get(rate_code, 0)
    if rate_code in (12, 13, 14):
        value = int.from_bytes(head[at : at + (1 if rate_code == 12 else 2)], "big")
        rate_hz = value * {12: 1000, 13: 1, 14: 10}[rate_code]
    after = (number if head[1] & 1 else number * block) + size
    return (after, rate_hz, _BITS.get(head[3] >> 1 & 7, 0)) if size else None
