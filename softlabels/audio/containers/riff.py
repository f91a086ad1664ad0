"""WAV, RF64 and Wave64: a list of chunks, of which one holds the samples."""

import struct
from typing import BinaryIO

from softlabels.audio.containers.structure import Block, Structure, damaged, is_padding, samples_of_chunk

STREAMED = 0xFFFFFFFF  # the data size of a WAV whose writer could not go back, and of every RF64
EXTENSIBLE = 0xFFFE  # a format tag that stands in the sub-format instead
PCM_TAGS = frozenset({1, 3, 6, 7})  # integers, floats, A-law, mu-law: every frame has the same size
KNOWN = frozenset(  # chunks that may follow the samples, and may be cut short without harm
    b"LIST id3  ID3  bext iXML fact cue  smpl inst plst JUNK junk PAD  FLLR guan wamd _PMX axml PEAK afsp"[i : i + 4]
    for i in range(0, 100, 5)
)
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")


def read_wav(file: BinaryIO) -> Structure:
    """Read a WAV or RF64. Raises: AudioError: truncated, contradictory, damaged."""
    end = file.seek(0, 2)
    file.seek(12)
    position, long_size = 12, None
    block: Block = (0, 0)
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        position += 8
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"fmt ":
            block = _block(file.read(min(size, 40)))
        elif name == b"data":
            promised = size if long_size is None or size < min(STREAMED, end - position) else long_size
            fits = any(_chunks_to(file, position + promised + pad, end) for pad in (promised % 2, 0))
            return samples_of_chunk(promised=promised, start=position, end=end, block=block, fits=fits)
        position += size + size % 2
        file.seek(position)
    return Structure()


def read_w64(file: BinaryIO) -> Structure:
    """Read a Wave64, whose sizes count their own 24 bytes. Raises: AudioError: as `read_wav`."""
    end = file.seek(0, 2)
    position = 40
    block: Block = (0, 0)
    file.seek(position)
    while len(head := file.read(24)) == 24:
        name, size = head[:4], int.from_bytes(head[16:], "little")
        if name == b"fmt ":
            block = _block(file.read(min(max(size - 24, 0), 40)))
        elif name == b"data":
            fits = _w64_chunks_to(file, position + (size + 7) // 8 * 8, end)
            promised = max(size - 24, 0)
            return samples_of_chunk(promised=promised, start=position + 24, end=end, block=block, fits=fits)
        position += max(24, (size + 7) // 8 * 8)
        if position >= end:
            break
        file.seek(position)
    return Structure()


def _block(form: bytes) -> Block:
    """What can be decoded at once. Raises: AudioError: damaged: the fields of the format contradict each other."""
    if len(form) < 16:
        return 0, 0
    tag, channels, rate_hz, bytes_a_second, block_bytes, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == EXTENSIBLE and len(form) >= 26:
        tag = int.from_bytes(form[24:26], "little")
    if tag in PCM_TAGS:
        fits = not rate_hz or bytes_a_second % rate_hz == 0  # writers get the bytes of a frame wrong, but not both
        least, frames = -(-bits // 8) * channels, 1
    else:
        frames = int.from_bytes(form[18:20], "little")
        fits = not frames or abs(bytes_a_second * frames - rate_hz * block_bytes) <= bytes_a_second * frames // 20
        least = 0
    if not fits:
        raise damaged(f"its format says {rate_hz} Hz and {bytes_a_second} bytes a second")
    if block_bytes < least or (frames == 1 and block_bytes % max(1, channels)):
        raise damaged(f"its format says {channels} channels of {bits} bits in {block_bytes} bytes")
    return (block_bytes, frames) if block_bytes and frames else (0, 0)


def _chunks_to(file: BinaryIO, position: int, end: int) -> bool:
    """Whether there are nothing but chunks, a tag or padding from here to the end; not another WAV, not samples."""
    while position < end:
        file.seek(position)
        head = file.read(8)
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name[:3] == b"TAG" and end - position == 128:
            return True
        if not any(head):
            return is_padding(file, position, end)
        if len(head) < 8 or name in (b"RIFF", b"RF64", b"data") or not all(32 <= byte < 127 for byte in name):
            return False
        position += 8 + size + size % 2
        if position > end + 1 and name not in KNOWN:
            return False
    return True


def _w64_chunks_to(file: BinaryIO, position: int, end: int) -> bool:
    while position < end:
        file.seek(position)
        head = file.read(24)
        if not any(head):
            return is_padding(file, position, end)
        size = int.from_bytes(head[16:], "little")
        if head[4:16] != W64_TAIL or head[:4] == b"data" or size < 24:
            return False
        position += (size + 7) // 8 * 8
    return True
