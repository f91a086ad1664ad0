"""MP4 and M4A: boxes in boxes; tables that say where each packet lies and how long it lasts."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from softlabels.audio.containers.structure import HINT, Structure, damaged, truncated
from softlabels.errors import AudioError

MOST_INDEX = 1 << 26  # bytes of an index that are read
PARENTS = (b"trak", b"mdia", b"minf", b"stbl", b"edts")
PRIMING = 3  # packets, at most
KNOWN = frozenset(b"ftyp moov mdat free skip wide uuid udta meta moof mfra sidx styp".split())
Box = tuple[bytes, int, int]  # type, first and last byte of its content


def read_mp4(file: BinaryIO, rate_hz: int) -> Structure:
    """Hold the tables of the first sound track against the file. rate_hz: of the decoder, 0 if it did not come so far.

    Raises: AudioError: truncated; damaged; contradictory.
    """
    end = file.seek(0, 2)
    boxes = list(_top_boxes(file, end))
    names = [name for name, _, _ in boxes]
    if names[:1] != [b"ftyp"] or (b"mdat" not in names and b"moov" not in names):
        return Structure()
    if names.count(b"ftyp") > 1 or names.count(b"moov") > 1:
        raise AudioError(f"contradictory: another file follows in it, of which its decoder reads nothing; {HINT}")
    if b"moov" not in names:
        file.seek(boxes[-1][1] - 8)
        if boxes[-1][0] == b"mdat" and file.read(4) == bytes(4):
            raise damaged("its media are of no stated size, and it has no index (moov box)")
        raise AudioError("truncated: the index of the file (its moov box), written last, is missing")
    _, first, last = boxes[names.index(b"moov")]
    if last - first > MOST_INDEX:
        raise damaged(f"its index is of {last - first} bytes")
    file.seek(first)
    moov = file.read(last - first)
    for name, start, stop in _boxes(moov, 0, len(moov)):
        if name != b"trak" or (track := _track(moov, start, stop)) is None:
            continue
        if not track.packets and b"moof" not in names:
            raise damaged("its index names no packets")
        if track.packets:
            _check_places(track, [(a, b) for name, a, b in boxes if name == b"mdat"], end)
            return _frames(track, rate_hz)
    return Structure()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    """A sound track. places, per_chunk, chunk_bytes: (chunks,); durations: (runs, 2) of packets, ticks a packet.

    skips: ticks before each edit; primed: whether a tag says how much its encoder put in front, which FFmpeg skips.
    """

    ticks: int
    packets: int
    places: np.ndarray
    chunk_bytes: np.ndarray
    per_chunk: np.ndarray
    durations: np.ndarray
    skips: list[int]
    primed: bool


def _track(moov: bytes, start: int, stop: int) -> _Track | None:
    """The tables of a track, None if it is no sound, or has its sizes in a shorter form."""
    found: dict[bytes, bytes] = {}
    todo = [(start, stop)]
    while todo:
        for name, a, b in _boxes(moov, *todo.pop()):
            if name in PARENTS:
                todo.append((a, b))
            else:
                found.setdefault(name, moov[a:b])
    if found.get(b"hdlr", b"")[8:12] != b"soun" or b"stz2" in found:
        return None
    try:
        long = found[b"mdhd"][0] == 1
        ticks = int.from_bytes(found[b"mdhd"][20:24] if long else found[b"mdhd"][12:16], "big")
        one_size, packets = struct.unpack_from(">II", found[b"stsz"], 4)
        sizes = np.zeros(0, np.int64) if one_size else _table(found[b"stsz"][4:], ">u4", 1)[:, 0]
        places = _table(found[b"stco"], ">u4", 1) if b"stco" in found else _table(found[b"co64"], ">u8", 1)
        runs, durations = _table(found[b"stsc"], ">u4", 3), _table(found[b"stts"], ">u4", 2)
        edit = struct.Struct(">qqi" if found.get(b"elst", b"\0")[:1] == b"\1" else ">iii")
        edits = found.get(b"elst", bytes(8))[8:]
        skips = [skip for _, skip, _ in edit.iter_unpack(edits[: len(edits) // edit.size * edit.size])]
    except (KeyError, struct.error, IndexError) as e:
        raise damaged(f"a table of its index is missing or cut short: {e}") from e
    chunks = np.searchsorted(runs[:, 0], np.arange(1, len(places) + 1), side="right") - 1
    per_chunk = runs[chunks, 1] if len(runs) and (chunks >= 0).all() else np.zeros(len(places), np.int64)
    counts = {packets, int(per_chunk.sum()), int(durations[:, 0].sum())}
    if len(counts) > 1:
        raise damaged(f"the tables of its index are of {', '.join(map(str, sorted(counts)))} packets")
    ends = np.concatenate([[0], np.cumsum(per_chunk)])
    sums = np.concatenate([[0], np.cumsum(sizes)])
    return _Track(
        ticks=ticks,
        packets=packets,
        chunk_bytes=per_chunk * one_size if one_size else np.diff(sums[ends]),
        places=places[:, 0],
        per_chunk=per_chunk,
        durations=durations,
        skips=skips,
        primed=b"iTunSMPB" in moov,
    )


def _table(box: bytes, form: str, columns: int) -> np.ndarray:
    """(rows, columns) int64. Raises: IndexError: shorter than it says."""
    rows = int.from_bytes(box[4:8], "big")
    values = np.frombuffer(box[8:], np.uint8)
    length = rows * columns * np.dtype(form).itemsize
    if length > len(values):
        raise IndexError(f"{rows} rows")
    return values[:length].view(form).reshape(rows, columns).astype(np.int64)


def _check_places(track: _Track, media: list[tuple[int, int]], end: int) -> None:
    """Every packet lies in a box of media, and in the file."""
    stops = track.places + track.chunk_bytes
    if (stops > end).any():
        raise truncated(track.packets, int(track.per_chunk[: np.flatnonzero(stops > end)[0]].sum()), "packets")
    inside = np.zeros(len(stops), bool)
    for first, stop in media:
        inside |= (track.places >= first) & (stops <= stop)
    if not inside.all():
        raise damaged(f"the packets of chunk {int(np.flatnonzero(~inside)[0])} lie outside its media")


def _frames(track: _Track, rate_hz: int) -> Structure:
    """How many frames a decoder should read; it may read the last packet to its end, and skips what an edit skips."""
    if not track.ticks:
        raise damaged("its time scale is 0")
    if not rate_hz or len(track.skips) > 1:
        return Structure()
    counts, ticks = track.durations[:, 0], track.durations[:, 1]
    total = int((counts * ticks).sum())
    skipped = max(0, track.skips[0]) if track.skips else 0
    longest = int(np.max(ticks[counts > 0], initial=0))
    most = total - int(ticks[-1]) + longest - skipped
    slack = 0 if track.ticks == rate_hz else 1 + rate_hz // 1000
    total -= PRIMING * longest if track.primed else 0
    low, high = (frames * rate_hz // track.ticks for frames in (total - skipped, most))
    return Structure(fewest=max(1, low - slack), most=high + slack)


def _top_boxes(file: BinaryIO, end: int) -> Iterator[Box]:
    """The boxes of the file itself. Raises: AudioError: truncated, damaged."""
    at = 0
    while at < end:
        file.seek(at)
        head = file.read(16)
        if at and not any(head):
            return  # padding
        if len(head) < 8:
            return
        size, name = struct.unpack(">I4s", head[:8])
        start = at + (16 if size == 1 else 8)
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or end - at
        if not name.isascii() or (not name.isalnum() and name not in (b"free", b"\xa9xyz")) or size < start - at:
            if at == 0:
                return
            raise damaged(f"a box should begin at byte {at}, and does not")
        if at + size > end and name not in KNOWN:
            raise damaged(f"what follows its last box, at byte {at}, is none")
        if at + size > end:
            raise truncated(size, end - at, f"bytes of its box '{name.decode()}'")
        yield name, start, at + size
        at += size


def _boxes(data: bytes, at: int, end: int) -> Iterator[Box]:
    """The boxes in a box. Raises: AudioError: damaged: one is larger than what it lies in."""
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        start = at + (16 if size == 1 else 8)
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or end - at
        if size < start - at or at + size > end:
            raise damaged(f"the box {name!r} of its index says {size} bytes, {end - at} are there")
        yield name, start, at + size
        at += size
