"""AIFF, CAF and AU: as WAV, with other names and the bytes of numbers the other way round."""

import struct
from typing import BinaryIO

from softlabels.audio.containers.structure import HINT, Block, Structure, exactly, is_padding, samples_of_chunk
from softlabels.errors import AudioError

PLAIN = frozenset((b"", b"NONE", b"twos", b"sowt", b"fl32", b"FL32", b"fl64", b"FL64", b"ulaw", b"ULAW"))
PLAIN |= {b"alaw", b"ALAW", b"in24", b"in32", b"42ni", b"23ni", b"raw "}
COMPANDED = frozenset((b"ulaw", b"ULAW", b"alaw", b"ALAW"))  # 8 bits a sample, whatever the header says
GSM_FRAMES = 160  # of a packet
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # encoding -> bytes of a sample


def read_aiff(file: BinaryIO) -> Structure:
    """Read an AIFF or AIFC. Raises: AudioError: truncated; contradictory: the file holds more, or another number."""
    end = file.seek(0, 2)
    position, stated = 12, 0
    block: Block = (0, 0)
    file.seek(position)
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack(">4sI", head)
        position += 8
        if name == b"COMM":
            common = file.read(min(size, 22))
            channels, stated, bits = struct.unpack(">HIH", common[:8].ljust(8, b"\0"))
            codec = common[18:22]
            if codec in PLAIN:
                block = channels * (1 if codec in COMPANDED else -(-bits // 8)), 1
            elif codec == b"ima4":
                block = channels * 34, 64
            elif codec == b"GSM ":
                block = 33, GSM_FRAMES
        elif name == b"SSND":
            offset = int.from_bytes(file.read(4), "big")
            promised = max(size - 8 - offset, 0)
            fits = any(_chunks_to(file, position + size + pad, end, ">4sI") for pad in (size % 2, 0))
            found = samples_of_chunk(promised=promised, start=position + 8 + offset, end=end, block=block, fits=fits)
            slack = {1: 0, GSM_FRAMES: GSM_FRAMES - 1}.get(block[1])  # a packet need not be full; ima4 counts packets
            there = found.fewest or 0
            if slack is not None and stated and (slack or not found.note) and not there - slack <= stated <= there:
                more = f"its header says {stated} frames, its chunk of samples holds {there}"
                raise AudioError(f"contradictory: {more}; {HINT}")
            return exactly(stated, found.note) if slack and stated else found
        position += size + size % 2
        file.seek(position)
    return Structure()


def read_caf(file: BinaryIO) -> Structure:
    """Read a CAF. Raises: AudioError: as `read_aiff`."""
    end = file.seek(0, 2)
    position, valid, priming = 8, 0, 0
    block: Block = (0, 0)
    found = Structure()
    file.seek(position)
    while len(head := file.read(12)) == 12:
        name, size = struct.unpack(">4sQ", head)
        position += 12
        if name == b"desc":
            packet_bytes, frames = struct.unpack(">16xII8x", file.read(32).ljust(32, b"\0"))
            block = (packet_bytes, 1) if frames == 1 else (0, 0)
        elif name == b"pakt":
            valid, priming = struct.unpack(">8xQI", file.read(20).ljust(20, b"\0"))
        elif name == b"data":
            fits = _chunks_to(file, position + size, end, ">4sQ")
            promised = max(size - 4, 0)
            found = samples_of_chunk(promised=promised, start=position + 4, end=end, block=block, fits=fits)
        position += size
        if position >= end:
            break
        file.seek(position)
    return Structure(fewest=valid, most=valid + priming, note=found.note) if valid else found


def read_au(file: BinaryIO) -> Structure:
    """Read an AU, of which the samples are the rest. Raises: AudioError: as `read_aiff`."""
    end = file.seek(0, 2)
    file.seek(4)
    start, size, encoding, _, channels = struct.unpack(">5I", file.read(20).ljust(20, b"\0"))
    fits = _chunks_to(file, start + size, end, ">4sI")
    return samples_of_chunk(
        promised=size, start=start, end=end, block=(AU_BYTES.get(encoding, 0) * channels, 1), fits=fits
    )


def _chunks_to(file: BinaryIO, position: int, end: int, form: str) -> bool:
    """Whether there are nothing but chunks or padding from here to the end; not samples, not another file."""
    length = struct.calcsize(form)
    while position < end:
        file.seek(position)
        head = file.read(length)
        if not any(head):
            return is_padding(file, position, end)
        if len(head) < length:
            return False
        name, size = struct.unpack(form, head)
        if name in (b"FORM", b"SSND", b"data", b"caff", b".snd") or not all(32 <= byte < 127 for byte in name):
            return False
        position += length + size + (size % 2 if form == ">4sI" else 0)
        if position > end + 1:
            return False
    return True
