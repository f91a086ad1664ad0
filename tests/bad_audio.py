"""Recordings as they should not be, one builder a kind; and a run over all of them among good ones, in one process."""

import hashlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import pipeline

RATE_HZ, WINDOW = 8000, 800  # of the stand-in teacher
GOOD = 4  # good clips, spread over the collection
Make = Callable[[Path], object]


def noise(samples: int = 3200, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (samples, channels)).astype(np.float32).squeeze()


def spoiled(value: float, at: slice, samples: int = 3200) -> np.ndarray:
    audio = noise(samples)
    audio[at] = value
    return audio


def written(samples: np.ndarray, rate_hz: int = RATE_HZ, *, format: str = "WAV", subtype: str | None = None) -> Make:
    return lambda path: soundfile.write(path, samples, rate_hz, format=format, subtype=subtype)


def raw(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


def changed(make: Make, change: Callable[[bytes], bytes]) -> Make:
    """A file whose bytes are changed after it was written."""

    def build(path: Path) -> None:
        make(path)
        path.write_bytes(change(path.read_bytes()))

    return build


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbled(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(2000) + content[middle + 2000 :]


def one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 8]) + content[middle + 1 :]


def twice(content: bytes) -> bytes:
    return content + content


def wav(*, rate_hz: int = RATE_HZ, channels: int = 1, data: bytes = bytes(6400), promised: int | None = None) -> bytes:
    """A 16-bit WAV file with a header of one's own."""
    promised = len(data) if promised is None else promised
    fields = [(1, 2), (channels, 2), (rate_hz, 4), (rate_hz * channels * 2, 4), (channels * 2, 2), (16, 2)]
    head = b"".join(value.to_bytes(size, "little") for value, size in fields)
    riff = min(promised + 36, 2**32 - 1).to_bytes(4, "little")
    return (
        b"RIFF"
        + riff
        + b"WAVEfmt "
        + (16).to_bytes(4, "little")
        + head
        + b"data"
        + promised.to_bytes(4, "little")
        + data
    )


def flac_total(total: int) -> Callable[[bytes], bytes]:
    """Let a FLAC header promise another number of samples; 0 is "unknown"."""

    def change(content: bytes) -> bytes:
        packed = int.from_bytes(content[18:26], "big")
        return content[:18] + ((packed >> 36 << 36) | total).to_bytes(8, "big") + content[26:]

    return change


def flac_md5(content: bytes) -> bytes:
    return content[:26] + bytes(range(16)) + content[42:]


def _crc(data: bytes, *, bits: int, polynomial: int) -> int:
    value = 0
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = ((value << 1) ^ (polynomial if value >> (bits - 1) else 0)) & ((1 << bits) - 1)
    return value


def silent_flac(seconds: int, *, header_only: bool = False) -> bytes:
    """Silence as a FLAC encoder would write it, one 15-byte frame for every 8 s."""
    block = 64_000
    frames = seconds * RATE_HZ // block
    packed = (RATE_HZ << 44) | (15 << 36) | (0 if header_only else frames * block)  # rate, 1 channel, 16 bit, total
    info = block.to_bytes(2, "big") * 2 + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    parts = [b"fLaC\x80\x00\x00\x22" + info]
    for number in range(0 if header_only else frames):
        head = b"\xff\xf8\x74\x08" + chr(number).encode("utf-8", "surrogatepass") + (block - 1).to_bytes(2, "big")
        frame = head + bytes([_crc(head, bits=8, polynomial=0x07)]) + bytes(3)  # a constant subframe of 0
        parts.append(frame + _crc(frame, bits=16, polynomial=0x8005).to_bytes(2, "big"))
    return b"".join(parts)


def chained_ogg(path: Path) -> None:
    links = []
    for seed in range(2):
        soundfile.write(path, noise(seed=seed), RATE_HZ, format="OGG")
        links.append(path.read_bytes())
    path.write_bytes(b"".join(links))


def link_out(path: Path) -> None:
    outside = path.parent.parent / "outside.wav"
    written(noise(seed=8))(outside)
    path.symlink_to(outside)


def link_inside(path: Path) -> None:
    written(noise())(path.with_suffix(".target"))
    path.symlink_to(path.with_suffix(".target").name)


def tagged(make: Make) -> Make:
    return changed(make, lambda content: b"ID3\x04\x00\x00\x00\x00\x00\x7f" + bytes(127) + content)


def nothing(path: Path) -> None:
    """Leave the path empty."""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One kind of bad audio.

    make: builds it; later: what happens to it between planning and labelling.
    ends: "labelled", or the reason of its quarantine ("a|b": either is right); windows: those that are quarantined,
      None is all. stretch: `start_s,end_s` of its manifest row; sha256: of the row.
    """

    make: Make
    ends: str
    why: str = ""
    later: Make | None = None
    windows: tuple[int, ...] | None = None
    stretch: str = ","
    sha256: str = ""
    name: str = "{kind}.wav"


WHOLE = written(noise())
KINDS = {
    # nothing there, or nothing in it
    "missing": Bad(make=nothing, ends="missing"),
    "dangling link": Bad(make=lambda path: path.symlink_to("nowhere.wav"), ends="missing"),
    "directory": Bad(make=Path.mkdir, ends="unreadable"),
    "empty file": Bad(make=raw(b""), ends="empty"),
    "WAV of 0 samples": Bad(make=written(noise(2)[:0]), ends="empty"),
    "FLAC of 0 samples": Bad(make=raw(silent_flac(0, header_only=True)), ends="empty|unsupported-container"),
    "1 sample": Bad(make=raw(wav(data=bytes(2))), ends="labelled", why="one window, nearly all padding"),
    "1 sample at another rate": Bad(make=raw(wav(rate_hz=16_000, data=bytes(2))), ends="labelled"),
    # cut short, garbled, lying headers
    "truncated WAV": Bad(make=changed(WHOLE, half), ends="truncated"),
    "truncated FLAC": Bad(make=changed(written(noise(40_000), format="FLAC"), half), ends="truncated|unreadable"),
    "truncated OGG": Bad(make=changed(written(noise(40_000), format="OGG"), half), ends="truncated"),
    "truncated Opus": Bad(
        make=changed(written(noise(40_000), 16_000, format="OGG", subtype="OPUS"), half), ends="truncated"
    ),
    "truncated MP3": Bad(make=changed(written(noise(40_000), format="MP3"), half), ends="truncated"),
    "truncated RF64": Bad(make=changed(written(noise(), format="RF64"), half), ends="truncated"),
    "truncated W64": Bad(make=changed(written(noise(), format="W64"), half), ends="truncated"),
    "truncated AIFF": Bad(make=changed(written(noise(), format="AIFF"), half), ends="truncated"),
    "truncated CAF": Bad(make=changed(written(noise(8000), format="CAF"), half), ends="truncated"),
    "OGG without its last page": Bad(
        make=changed(written(noise(40_000), format="OGG"), lambda content: content[: content.rindex(b"OggS")]),
        ends="labelled",
        why="a recorder that was switched off leaves it so; what is there is complete",
    ),
    "OGG with one wrong bit": Bad(make=changed(written(noise(40_000), format="OGG"), one_bit), ends="damaged"),
    "MP3 with one wrong bit": Bad(make=changed(written(noise(40_000), format="MP3"), one_bit), ends="damaged"),
    "two MP3s joined": Bad(make=changed(written(noise(40_000), format="MP3"), twice), ends="contradictory"),
    "two WAVs joined": Bad(make=changed(WHOLE, twice), ends="contradictory"),
    "WAV of a size that wrapped": Bad(make=raw(wav(promised=44)), ends="contradictory"),
    "WAV of a pipe": Bad(make=raw(wav(promised=0x7FFFF000)), ends="labelled", why="as sox writes it"),
    "WAV whose size counts its header": Bad(make=raw(wav(promised=6400 + 44)), ends="labelled"),
    "garbled FLAC": Bad(make=changed(written(noise(12_000), format="FLAC"), garbled), ends="unreadable"),
    "garbled MP3": Bad(make=changed(written(noise(100_000), format="MP3"), garbled), ends="damaged"),
    "FLAC asking for 256 GiB": Bad(
        make=changed(written(noise(), format="FLAC"), flac_total(2**36 - 1)), ends="truncated"
    ),
    "FLAC promising 10 s of 0.4": Bad(
        make=changed(written(noise(), format="FLAC"), flac_total(80_000)), ends="truncated|unreadable"
    ),
    "FLAC of unknown length": Bad(
        make=changed(written(noise(), format="FLAC"), flac_total(0)),
        ends="unsupported-container",
        why="an encoder that wrote to a pipe leaves it so, and the decoder cannot find its way in it",
    ),
    "WAV of unknown length": Bad(
        make=raw(wav(promised=2**32 - 1)), ends="labelled", why="encoders of streams write it"
    ),
    "FLAC with a wrong MD5": Bad(
        make=changed(written(noise(), format="FLAC"), flac_md5),
        ends="labelled",
        why="every frame has a checksum of its own that holds; editors leave the MD5 of the whole as it was",
    ),
    "chained OGG": Bad(
        make=chained_ogg, ends="unsupported-container|unreadable", why="the decoder reads only the first link"
    ),
    "48 h of silence": Bad(make=raw(silent_flac(48 * 3600)), ends="too-long"),
    "1 Hz": Bad(make=raw(wav(rate_hz=1)), ends="bad-rate"),
    "10 MHz": Bad(make=raw(wav(rate_hz=10_000_000)), ends="bad-rate"),
    "0 Hz": Bad(make=raw(wav(rate_hz=0)), ends="bad-rate|unreadable"),
    "0 channels": Bad(make=raw(wav(channels=0)), ends="unreadable"),
    "64 channels": Bad(make=raw(wav(channels=64)), ends="too-many-channels"),
    # samples that are no sound
    "NaN": Bad(make=written(spoiled(np.nan, slice(900, 901)), subtype="FLOAT"), ends="not-finite-audio", windows=(1,)),
    "Inf": Bad(
        make=written(spoiled(np.inf, slice(1700, 2500)), subtype="FLOAT"), ends="not-finite-audio", windows=(2, 3)
    ),
    "1e300 as 64-bit float": Bad(
        make=written(spoiled(1e3, slice(0, 1)).astype(np.float64) ** 100, subtype="DOUBLE"),
        ends="not-finite-audio",
        windows=(0,),
        why="beyond float32",
    ),
    "NaN in a file to resample": Bad(
        make=written(spoiled(np.nan, slice(2400, 2404), 6400), 16_000, subtype="FLOAT"),
        ends="not-finite-audio",
        windows=(1,),
    ),
    "Inf at the end of a file to resample": Bad(
        make=written(spoiled(-np.inf, slice(6399, 6400), 6400), 16_000, subtype="FLOAT"),
        ends="not-finite-audio",
        windows=(3,),
    ),
    "all zero": Bad(make=written(np.zeros(3200)), ends="labelled", why="silence is sound"),
    "DC": Bad(make=written(np.full(3200, 0.5)), ends="labelled"),
    "louder than 1": Bad(make=written(noise() * 50, subtype="FLOAT"), ends="labelled"),
    # not what the name says
    "FLAC named .wav": Bad(make=written(noise(), format="FLAC"), ends="labelled"),
    "MP3 named .ogg": Bad(make=written(noise(), format="MP3"), ends="labelled", name="mp3-named.ogg"),
    "FLAC behind an ID3 tag": Bad(make=tagged(written(noise(), format="FLAC")), ends="labelled"),
    "text named .wav": Bad(make=raw(b"this is no audio at all, " * 99), ends="unsupported-container"),
    "error page named .mp3": Bad(make=raw(b"<!DOCTYPE html><p>404"), ends="unsupported-container", name="page.mp3"),
    "junk named .m4a": Bad(make=raw(bytes(4) + b"ftypM4A " + bytes(500)), ends="unreadable", name="junk.m4a"),
    # where it lies
    "link out of the root": Bad(make=link_out, ends="outside-root"),
    "link inside the root": Bad(make=link_inside, ends="labelled"),
    "name of 300 bytes": Bad(make=nothing, ends="unreadable|missing", name="n" * 300 + ".wav"),
    "odd name": Bad(make=WHOLE, ends="labelled", name=' %41 "ä" \\ ~$HOME;*.wav '),
    # between planning and labelling
    "changed": Bad(make=WHOLE, later=written(noise(seed=9)), ends="changed-since-probe"),
    "cut short later": Bad(make=WHOLE, later=raw(b"RIFF"), ends="changed-since-probe"),
    "vanished": Bad(make=WHOLE, later=Path.unlink, ends="missing"),
    "became a link out": Bad(
        make=WHOLE, later=lambda path: (path.unlink(), link_out(path)), ends="outside-root|changed-since-probe"
    ),
    "became a directory": Bad(make=WHOLE, later=lambda path: (path.unlink(), path.mkdir()), ends="unreadable"),
    # what the manifest says of it
    "another sha256": Bad(make=WHOLE, ends="digest-mismatch", sha256=hashlib.sha256(b"other").hexdigest()),
    "start behind the end": Bad(make=WHOLE, ends="outside-file", stretch="0.4,"),
    "end a second late": Bad(make=WHOLE, ends="outside-file", stretch=",1.4"),
    "end rounded up": Bad(make=WHOLE, ends="labelled", stretch=",0.45"),
    "stretch shorter than a sample": Bad(make=WHOLE, ends="empty", stretch="0.1,0.10001"),
    # good, though not of the plainest
    "RF64": Bad(make=written(noise(), format="RF64"), ends="labelled"),
    "W64": Bad(make=written(noise(), format="W64"), ends="labelled"),
    "AIFF": Bad(make=written(noise(), format="AIFF"), ends="labelled"),
    "CAF": Bad(make=written(noise(), format="CAF"), ends="labelled"),
    "AU": Bad(make=written(noise(), format="AU"), ends="labelled"),
    "GSM 6.10": Bad(make=written(noise(), subtype="GSM610"), ends="labelled"),
    "24 bit": Bad(make=written(noise(), subtype="PCM_24"), ends="labelled"),
    "8 bit": Bad(make=written(noise(), subtype="PCM_U8"), ends="labelled"),
    "Opus": Bad(make=written(noise(9600), 24_000, format="OGG", subtype="OPUS"), ends="labelled"),
    "stereo of 44.1 kHz": Bad(make=written(noise(17_640, channels=2), 44_100), ends="labelled"),
    "16 channels": Bad(make=written(noise(channels=16)), ends="labelled"),
}


def build(folder: Path, *, only_good: bool = False) -> Path:
    """The whole collection, in the order of the kinds, good clips between; returns its manifest."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    rows = []
    for i in range(GOOD):
        written(noise(seed=100 + i))(audio / f"good{i}.wav")
        rows.append(f"k{i * len(KINDS) // GOOD:02d}-good{i},good{i}.wav,,,")
    for number, (kind, bad) in enumerate({} if only_good else KINDS.items()):
        path = path_of(folder, kind)
        bad.make(path)
        quoted = '"' + path.name.replace('"', '""') + '"'
        rows.append(f"{clip_id(kind, number)},{quoted},{bad.stretch},{bad.sha256}")
    manifest = audio / "data_manifest.csv"
    manifest.write_text("clip_id,path,start_s,end_s,sha256\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def path_of(folder: Path, kind: str) -> Path:
    return folder / "audio" / KINDS[kind].name.format(kind=kind)


def clip_id(kind: str, number: int | None = None) -> str:
    """Sorts like the kinds, so that good and bad share shards."""
    return f"k{list(KINDS).index(kind) if number is None else number:02d} {kind}"


def label(folder: Path, manifest: Path) -> pipeline.RunSummary:
    """Label the collection in this process; what happens later happens when the plan is written."""

    def spoil(*_plan: object) -> None:
        for kind, bad in KINDS.items():
            if bad.later is not None and path_of(folder, kind).exists():
                bad.later(path_of(folder, kind))

    return pipeline.run(
        manifest,
        folder / "store",
        teacher="standin:teacher",
        labelling=pipeline.LabelOptions(shard_windows=16),
        options=pipeline.RunOptions(backend="sequential"),
        events=pipeline.RunEvents(on_plan=spoil),
    )


if __name__ == "__main__":
    here = Path(sys.argv[1])
    summary = label(here, here / "audio" / "data_manifest.csv")
    # VmHWM, for ru_maxrss begins with what the parent had when it forked.
    megabytes = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    os.write(1, f"{summary.labelled} {summary.quarantined} {summary.missing} {megabytes:.0f}\n".encode())
