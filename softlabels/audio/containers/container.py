"""Which container a file is, what its own structure says of its samples, and where it can be entered in the middle."""

import re
from typing import BinaryIO, Literal

from softlabels.audio.containers.chunks import read_aiff, read_au, read_caf
from softlabels.audio.containers.flac import read_flac
from softlabels.audio.containers.mp4 import read_mp4
from softlabels.audio.containers.mpeg import read_adts, read_mp3
from softlabels.audio.containers.ogg import read_ogg
from softlabels.audio.containers.riff import read_w64, read_wav
from softlabels.audio.containers.structure import Structure

# "mp3" stands in plans of before: read with a seek after each block, which changes samples by up to 0.4 of full scale.
# Their labels were made so, and are made so again. What is probed now is "mp3-through": read on, without a seek.
Container = Literal["wav", "flac", "ogg", "mp3", "mp3-through", "m4a", "w64", "aiff", "caf", "au"]
_MAGIC: tuple[tuple[bytes, Container], ...] = (
    (rb"(RIFF|RF64)....WAVE", "wav"),
    (rb"fLaC", "flac"),
    (rb"OggS", "ogg"),
    (rb"ID3|\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]", "mp3-through"),
    (rb"....ftyp|\xff[\xf0\xf1\xf8\xf9]", "m4a"),  # the second is bare AAC
    (rb"riff\x2e\x91\xcf\x11", "w64"),
    (rb"FORM....AIF[FC]", "aiff"),
    (rb"caff", "caf"),
    (rb"\.snd", "au"),
)
_CHUNKED: frozenset[Container] = frozenset({"wav", "w64", "aiff", "caf", "au"})
_PLAIN = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})


def container_of(head: bytes) -> Container | None:
    """What the first 12 bytes of a file say."""
    return next((container for pattern, container in _MAGIC if re.match(pattern, head, re.DOTALL)), None)


def read_structure(file: BinaryIO, container: Container, *, rate_hz: int = 0) -> Structure:
    """What a file's own structure says of its samples.

    Args:
      file: at its start.
      container: what it is.
      rate_hz: what its decoder says; 0 if it says nothing.
    Raises: AudioError: truncated; contradictory: it holds more than its header says; damaged: a checksum, a number or a
      place in it does not fit; unsupported-container for an OGG of several streams. OSError.
    """
    if container == "m4a":
        return _read_aac(file, rate_hz)
    readers = {"wav": read_wav, "flac": read_flac, "ogg": read_ogg, "mp3": read_mp3, "w64": read_w64}
    return (readers | {"mp3-through": read_mp3, "aiff": read_aiff, "caf": read_caf, "au": read_au})[container](file)


def seeks_exactly(container: Container, subtype: str) -> bool:
    """Whether a file entered in the middle gives the very samples of one that is read through.

    Not OGG (its decoder miscounts on the last page), not MP3 and AAC, not codecs of which a frame needs the one before.
    """
    return container == "flac" or (container in _CHUNKED and subtype in _PLAIN)


def knows_length(container: Container, subtype: str) -> bool:
    """Whether the decoder knows the length of a file before it has read it."""
    return container in ("flac", "ogg") or (container in _CHUNKED and subtype in _PLAIN)


def _read_aac(file: BinaryIO, rate_hz: int) -> Structure:
    bare = file.read(1) == b"\xff"
    return read_adts(file, rate_hz) if bare else read_mp4(file, rate_hz)
