"""Ogg: pages, each with a checksum, a number and the position that its stream has reached."""

import struct
from typing import BinaryIO

from softlabels.audio.containers.checksums import ogg_crc
from softlabels.audio.containers.structure import Structure, damaged
from softlabels.errors import AudioError

NO_POSITION = -1  # of a page on which no packet ends
CONTINUED, FIRST, LAST = 1, 2, 4  # flags of a page


def read_ogg(file: BinaryIO) -> Structure:
    """Check every page: one stream, no page missing, swapped or changed, the last one complete.

    Raises: AudioError: truncated; damaged; unsupported-container for several streams, of which the decoder reads one.
    """
    end = file.seek(0, 2)
    file.seek(0)
    at, number, serial, reached, flags, open_packet = 0, 0, -1, 0, 0, False
    while at < end:
        head = file.read(27)
        table = file.read(head[26]) if len(head) == 27 else b""
        body = file.read(sum(table))
        if head[:4] == b"OggS"[: len(head)] and at + 27 + (head[26] if len(head) == 27 else 0) + sum(table) > end:
            raise AudioError(f"truncated: the file ends at byte {end}, in the middle of page {number}")
        if head[:4] != b"OggS":
            raise damaged(f"page {number} should begin at byte {at}, and does not")
        _, flags, position, its_serial, its_number, code = struct.unpack("<BBqIII", head[4:26])
        if ogg_crc(head[:22], bytes(4), head[26:], table, body) != code:
            raise damaged(f"page {number} at byte {at}: its checksum does not fit")
        if (flags & FIRST and at) or serial not in (-1, its_serial):
            raise AudioError("unsupported-container: a chained or multiplexed OGG, of which only a part can be read")
        if at == 0:
            serial, number = its_serial, its_number
        if its_number != number:
            raise damaged(f"page {number} should be at byte {at}, page {its_number} is")
        if (position != NO_POSITION and position < reached) or bool(flags & CONTINUED) != open_packet:
            raise damaged(f"page {number} at byte {at}: it does not go on where the page before ends")
        reached = reached if position == NO_POSITION else position
        open_packet = table[-1:] == b"\xff"
        number, at = number + 1, at + 27 + len(table) + len(body)
    return Structure(note="" if flags & LAST else "its last page is not marked as the last")
