"""Is a file as long as its own headers say? Decoders do not ask: they read a file cut in half as a shorter one."""

import struct
from pathlib import Path
from typing import BinaryIO

from softlabels.audio.faults import AudioBytes, decoder_faults
from softlabels.errors import AudioError

STREAMED = 0xFFFFFFFF  # the data size of a WAV whose writer could not go back
XING_FRAMES, XING_BYTES = 1, 2


def check_intact(path: str | Path, container: str) -> None:
    """Hold a file against the length that its container states, where it states one.

    Raises: AudioError: truncated; unsupported-container for an OGG of several links, of which the decoder reads one.
    """
    checks = {"wav": _check_wav, "ogg": _check_ogg, "mp3": _check_mp3}
    if container in checks:
        with AudioBytes(path) as source, decoder_faults(source, "its header"):
            checks[container](source.buffered)


def _check_wav(file: BinaryIO) -> None:
    if file.read(12)[:4] != b"RIFF":
        return  # RF64 keeps its length elsewhere
    size = file.seek(0, 2)
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            if length != STREAMED and position + 8 + length > size:
                raise AudioError(f"truncated: the header promises {length} bytes, {size - position - 8} are there")
            return
        position += 8 + length + length % 2


def _check_ogg(file: BinaryIO) -> None:
    """Walk over the page headers: one stream, whose last page is marked as the last and is complete."""
    size, position, streams, flags = file.seek(0, 2), 0, 0, 0
    while position < size:
        file.seek(position)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            break
        table = file.read(head[26])
        position += 27 + len(table) + sum(table)
        flags = head[5]
        streams += flags >> 1 & 1
        if streams > 1:
            raise AudioError("unsupported-container: a chained or multiplexed OGG, of which only a part can be read")
    if not flags & 4 or position > size:
        raise AudioError("truncated: the file ends before its last OGG page")


def _check_mp3(file: BinaryIO) -> None:
    """The Xing or Info tag of the first frame says how many bytes of audio there are."""
    start = 0
    head = file.read(10)
    if head[:3] == b"ID3":
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(start)
    first = file.read(256)
    at = max(first.find(b"Xing"), first.find(b"Info"))
    if at < 0 or len(first) < at + 16:
        return
    flags = int.from_bytes(first[at + 4 : at + 8], "big")
    if flags & XING_FRAMES and flags & XING_BYTES:
        promised = int.from_bytes(first[at + 12 : at + 16], "big")
        there = file.seek(0, 2) - start
        if there < promised:
            raise AudioError(f"truncated: the header promises {promised} bytes, {there} are there")
