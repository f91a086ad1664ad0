"""MP3 and bare AAC: a chain of frames, each of which says where the next begins; an MP3 may begin with totals."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from softlabels.audio.containers.checksums import crc16, crc16_msb
from softlabels.audio.containers.structure import Structure, damaged, exactly, truncated

PIECE = 1 << 20
XING_FRAMES, XING_BYTES, XING_ALL = 1, 2, 15
MPEG_1 = 3  # as the two bits of the version say it
AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_RATES = (44_100, 48_000, 32_000)
_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBIT = {  # (is it MPEG-1, layer) -> kbit/s by the code of a frame
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _LOW,
    (False, 3): _LOW,
}
Lengths = Callable[[bytes, int], int]  # bytes of the frame that begins there, 0 if none does


def read_mp3(file: BinaryIO) -> Structure:
    """Follow the frames, and hold them against the tag of the first and against the checksums that there are.

    Raises: AudioError: truncated; damaged; contradictory.
    """
    end = file.seek(0, 2)
    start = _after_id3(file, 0)
    file.seek(start)
    head = file.read(4)
    kind = _Kind.of(head)
    if kind is None or not (length := kind.length(head, 0)):
        return Structure()  # free format, or something before the first frame: only the decoder finds its way
    file.seek(start)
    tag = _Tag(file.read(length))
    music = (start + length, start + tag.music_bytes) if tag.music_crc else (0, 0)
    chain = _Chain(file, start, end, kind.length, side=kind.side_bytes, music=music)
    frames = chain.frames - tag.is_there
    if chain.stop - start < tag.bytes:
        raise truncated(tag.bytes, chain.stop - start, "bytes")
    if frames < tag.frames - 1:  # some count the frame of the tag
        raise truncated(tag.frames, frames, "frames of MP3")
    if chain.missing:
        raise truncated(frames + 1, frames, "frames of MP3")
    if tag.music_crc and chain.music_crc != tag.music_crc:
        raise damaged("the checksum of all its frames, which its LAME tag holds, does not fit")
    samples = frames * kind.samples
    if tag.trimmed:
        return exactly(max(0, samples - tag.trimmed))
    return Structure(fewest=samples - kind.samples + 1, most=samples)


def read_adts(file: BinaryIO, rate_hz: int) -> Structure:
    """Follow the frames of bare AAC. rate_hz: of the decoder. Raises: AudioError: truncated; damaged."""
    end = file.seek(0, 2)
    file.seek(0)
    first = file.read(7).ljust(7, b"\0")

    def length_at(data: bytes, at: int) -> int:
        if data[at] != 0xFF or data[at + 1 : at + 3] != first[1:3] or (data[at + 3] ^ first[3]) & 0xF0:
            return 0
        length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        return length if length >= 7 else 0

    rate_code = first[2] >> 2 & 15
    if not length_at(first, 0) or rate_code >= len(AAC_RATES):
        return Structure()
    chain = _Chain(file, 0, end, length_at)
    if chain.missing:
        raise truncated(chain.frames + 1, chain.frames, "frames of AAC")
    return exactly(chain.frames * 1024 * rate_hz // AAC_RATES[rate_code])  # twice as many with SBR


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What all frames of an MP3 share. samples: a frame; side_bytes: what a checksum covers after the head."""

    samples: int
    side_bytes: int
    mono: bool
    lengths: dict[int, int]

    @classmethod
    def of(cls, head: bytes) -> "_Kind | None":
        if len(head) < 4 or head[0] != 0xFF:
            return None
        version, layer, rate, mono = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3, head[3] >= 0xC0
        if version == 1 or layer == 4 or rate == 3:
            return None
        is_1 = version == MPEG_1
        samples = {1: 384, 2: 1152, 3: 1152 if is_1 else 576}[layer]
        side_bytes = 0 if layer != 3 else {(True, False): 32, (False, True): 9}.get((is_1, mono), 17)
        return cls(samples=samples, side_bytes=side_bytes, mono=mono, lengths=_mp3_lengths(version, layer, rate))

    def length(self, data: bytes, at: int) -> int:
        """Bytes of the frame at `at`, 0 if there is none of this kind."""
        if data[at] != 0xFF or (data[at + 3] >= 0xC0) != self.mono:
            return 0
        return self.lengths.get(data[at + 1] << 8 | data[at + 2], 0)


@functools.cache
def _mp3_lengths(version: int, layer: int, rate: int) -> dict[int, int]:
    """Second and third byte of a frame of this kind -> its bytes."""
    rate_hz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    words = {1: 12, 2: 144, 3: 144 if version == MPEG_1 else 72}[layer] * 1000
    lengths = {}
    for code, kbit in enumerate(_KBIT[version == MPEG_1, layer], start=1):
        for low in range(4):  # of which the upper is the padding
            length = (words * kbit // rate_hz + (low >> 1)) * (4 if layer == 1 else 1)
            for unprotected in range(2):
                second = 0xE0 | version << 3 | (4 - layer) << 1 | unprotected
                lengths[second << 8 | code << 4 | rate << 2 | low] = length
    return lengths


class _Chain:
    """All frames from `start`.

    frames: how many; stop: where the last ends; missing: bytes that the last one lacks.
    music_crc: of the bytes from music[0] to music[1].
    """

    def __init__(
        self, file: BinaryIO, start: int, end: int, length: Lengths, *, side: int = 0, music: tuple[int, int] = (0, 0)
    ) -> None:
        self.frames, self.stop, self.missing, self.music_crc = 0, start, 0, 0
        self._file, self._end, self._length, self._side, self._music = file, end, length, side, music
        while self._piece():
            continue

    def _piece(self) -> bool:
        """Follow the frames that lie in the next piece; whether there are more."""
        self._file.seek(self.stop)
        data = self._file.read(PIECE)
        places, at, length, last, length_at = [], 0, 1, len(data) - 7, self._length
        while at <= last and (length := length_at(data, at)) and at + length <= len(data):
            places.append(at)
            at += length
        self.frames += len(places)
        self._check([place for place in places if not data[place + 1] & 1] if self._side else [], data)
        first, stop = (min(max(place - self.stop, 0), at) for place in self._music)
        if first < stop:
            self.music_crc = int(crc16(np.frombuffer(data[first:stop], np.uint8), first=self.music_crc))
        self.stop += at
        if self.stop >= self._end:
            return False
        if at <= last and length:
            self.missing = max(0, self.stop + length - self._end)
            return not self.missing
        return self._odd()

    def _odd(self) -> bool:
        """What is no frame is a tag or padding at the end, or the tag of another file that was put after this one."""
        self._file.seek(self.stop)
        rest = self._file.read(PIECE)
        if rest[:3] == b"ID3":
            self.stop = _after_id3(self._file, self.stop)
            return self.stop < self._end
        if re.match(rb"TAG|APETAGEX|LYRICSBEGIN|3DI", rest) or not any(rest):
            return False
        if len(rest) < 7 and rest[0] == 0xFF:
            self.missing = 7 - len(rest)
            return False
        if len(rest) >= 7 and self._length(rest, 0):
            return True  # it only lay across the end of a piece
        raise damaged(f"frame {self.frames} should begin at byte {self.stop}, and does not")

    def _check(self, protected: list[int], data: bytes) -> None:
        """Hold frames against their own checksums, of their head and of how they are laid out."""
        protected = [place for place in protected if place + 6 + self._side <= len(data)]
        if not protected:
            return
        rows = np.frombuffer(data, np.uint8)[np.array(protected)[:, None] + np.arange(6 + self._side)]
        codes = crc16_msb(np.concatenate([rows[:, 2:4], rows[:, 6:]], axis=1), first=0xFFFF)
        wrong = np.flatnonzero(codes != (rows[:, 4].astype(np.uint16) << 8 | rows[:, 5]))
        if len(wrong):
            raise damaged(f"the frame at byte {self.stop + protected[wrong[0]]}: its checksum does not fit")


class _Tag:
    """The Xing or Info tag of a first frame, with what LAME added to it; zeros where there is none."""

    def __init__(self, frame: bytes) -> None:
        self.frames = self.bytes = self.trimmed = self.music_bytes = self.music_crc = 0
        at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
        self.is_there = at >= 0 and len(frame) >= at + 16
        if not self.is_there:
            if re.search(rb"LAME\d\.|Lav[cf]\d", frame[100:200]):
                raise damaged("its LAME tag is part of no other")
            return
        flags, frames, size = (int.from_bytes(frame[at + i : at + i + 4], "big") for i in (4, 8, 12))
        if flags & XING_FRAMES:
            self.frames, self.bytes = frames, size if flags & XING_BYTES else 0
        lame = frame[at + 120 : at + 156]
        known = re.match(rb"LAME|Lav[cf]", lame) or (flags & XING_ALL == XING_ALL and lame[:4].isascii())
        if len(lame) < 36 or not known:
            return
        self.trimmed = (lame[21] << 4 | lame[22] >> 4) + ((lame[22] & 15) << 8 | lame[23])  # at both ends
        self.music_bytes = int.from_bytes(lame[28:32], "big")
        self.music_crc, crc = (int.from_bytes(lame[i : i + 2], "big") for i in (32, 34))
        by_lame = np.frombuffer(frame[: at + 154], np.uint8)
        by_ffmpeg = np.frombuffer((frame[: at + 154] + bytes(2) + frame[at + 156 :]).ljust(190, b"\0")[:190], np.uint8)
        if crc not in (0, crc16(by_lame), crc16(by_ffmpeg)):
            raise damaged("the checksum of its LAME tag does not fit")


def _after_id3(file: BinaryIO, at: int) -> int:
    """Where the audio begins after one ID3 tag or more."""
    while True:
        file.seek(at)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return at
        at += id3_bytes(head)


def id3_bytes(head: bytes) -> int:
    """The length of an ID3 tag that begins with these 10 bytes, with all that belongs to it."""
    size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)
