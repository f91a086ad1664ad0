"""Every size field of every container, lied about in every way; several at once; and files put together oddly.

    python tests/benchmarks/every_lie.py [--several 20]

For each container, codec and one or two channels: each field of `audio_lies.SIZES` x each of `audio_lies.LIES`, so many
files in which several fields lie, and odd files that are no lies: chunks in another order, tags in front, pads left
out, two streams joined, other versions of a header. Each is read through the product and through the bare decoder from
its start. Prints a JSON object of outcomes by kind, and every file that counts against the product as in
`audio_mutants.py`: `unnamed`, `silent`, `not as decoded`, `untrue`. Exits 1 if any does.
"""

import argparse
import json
import re
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from audio_lies import LIES, SIZES, SUBTYPES, Original, Verdict, judge, made, pages

from softlabels.audio.containers.checksums import ogg_crc
from softlabels.audio.decode import read_audio
from softlabels.errors import AudioError

Odd = Iterator[tuple[str, bytes]]
MORE = {"WAV": ("G721_32", "NMS_ADPCM_16", "MPEG_LAYER_III"), "WAVEX": ("PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW")}
MORE |= {"CAF": ("ALAC_24", "PCM_S8", "ULAW"), "AIFF": ("PCM_32", "DOUBLE", "GSM610"), "AU": ("ALAW", "G723_24")}
CUT, GROWN = "several lies, cut", "several lies, grown"
# Only their decoder can tell of these: all that states a size has lied, or the file is a good one, of other audio.
ONLY_AS_DECODED = re.compile(f"{CUT}|{GROWN}|starts|end |pre-skip|gain|no last page|odd data")
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOICMT" + struct.pack("<I", 14) + b"made by hand\0\0"
ODD_LIST = b"note" + struct.pack("<I", 3) + b"abc"
ID3 = b"ID3\4\0\0\0\0\2\0" + bytes(256)
ID3V1, APE = b"TAG" + bytes(125), b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 0)


def fields(file: Original) -> list[tuple[int, str, str]]:
    """Place, form and name of every size field that this file has."""
    format = "WAV" if file.format == "WAVEX" else file.format
    found = []
    for marker, between, form in SIZES[format]:
        at = file.content.find(marker)
        if at >= 0:
            found.append((at + 4 + between, form, f"{marker.decode()}+{between}"))
    return found


def lied(content: bytes, at: int, form: str, lie: str) -> bytes:
    (size,) = struct.unpack_from(form, content, at)
    top = 256 ** struct.calcsize(form) - 1
    changed = bytearray(content)
    struct.pack_into(form, changed, at, LIES[lie](size, top) % (top + 1))
    return bytes(changed)


def single_lies(file: Original) -> Odd:
    for at, form, name in fields(file):
        for lie in LIES:
            content = lied(file.content, at, form, lie)
            if content != file.content:
                yield f"lie: {lie}", content
        for share in (0.5, 0.9):
            cut = file.content[: int(len(file.content) * share)]
            if at + struct.calcsize(form) <= len(cut):
                yield f"cut and lie: double {name}", lied(cut, at, form, "double")


def several_lies(file: Original, count: int) -> Odd:
    random = np.random.default_rng(list(f"{file.format}{file.subtype}{file.channels}".encode()))
    for _ in range(count if len(fields(file)) > 1 else 0):
        content = file.content
        for at, form, _ in fields(file):
            if random.random() < 0.7:
                content = lied(content, at, form, str(random.choice(list(LIES))))
        if content == file.content:
            continue
        yield "several lies", content
        yield CUT, content[: int(len(content) * random.uniform(0.4, 1))]
        yield GROWN, content + random.bytes(int(random.integers(1, 4000)))


def odd_files(file: Original) -> Odd:
    content = file.content
    yield "unchanged", content
    yield "id3 in front", ID3 + content
    if file.format in ("WAV", "WAVEX", "RF64"):
        yield from odd_wavs(content)
    if file.format == "MP3":
        yield "id3v1 after", content + ID3V1
        yield "ape and id3v1 after", content + APE + ID3V1
        yield "two id3 in front", ID3 + ID3 + content
        yield "joined", content + content
        yield "joined with id3", content + ID3 + content
        yield "zeros after", content + bytes(700)
        yield "junk in front", b"\0" * 300 + content
    if file.format == "FLAC":
        info = content[:4] + bytes([content[4] & 127]) + content[5:42]
        padding = struct.pack(">I", (0x81 << 24 if content[4] & 128 else 1 << 24) | 512) + bytes(512)
        yield "padding block", info + padding + content[42:] if not content[4] & 128 else content[:42]
        yield "id3v1 after", content + ID3V1
        yield "joined", content + content
        yield "no md5", content[:26] + bytes(16) + content[42:]
        yield "other md5", content[:26] + bytes(range(16)) + content[42:]
    if file.format in ("OGG", "OPUS"):
        yield from odd_oggs(content, opus=file.format == "OPUS")
    if file.format in ("AIFF", "CAF", "AU", "W64", "M4A"):
        yield "joined", content + content
        yield "joined with id3", content + ID3 + content
        yield "zeros after", content + bytes(512)
        yield "junk after", content + b"\x17junk, no chunk" * 40
        yield "id3v1 after", content + ID3V1


def odd_wavs(content: bytes) -> Odd:
    at = content.index(b"data")
    head, (size,) = content[:at], struct.unpack_from("<I", content, at + 4)
    size = size if size <= len(content) else len(content) - at - 8
    samples, rest = content[at + 8 : at + 8 + size], content[at + 8 + size :]

    def riff(data: bytes) -> bytes:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:] if data[:4] == b"RIFF" else data

    def data_chunk(part: bytes) -> bytes:
        return b"data" + struct.pack("<I", len(part)) + part

    chunk = content[at : at + 8] + samples
    yield "list before", riff(head + LIST + chunk + rest)
    yield "odd list before", riff(head + ODD_LIST + b"\0" + chunk + rest)
    yield "odd list before, no pad", riff(head + ODD_LIST + chunk + rest)
    yield "list after", riff(content + bytes(len(content) % 2) + LIST)
    yield "list after, riff not grown", content + bytes(len(content) % 2) + LIST
    yield "odd list after, no pad", riff(content + bytes(len(content) % 2) + ODD_LIST)
    yield "junk after", content + b"\x17junk, no chunk" * 40
    yield "tag after", content + ID3V1
    middle = len(samples) // 16 * 8
    yield "two data chunks", riff(head + data_chunk(samples[:middle]) + data_chunk(samples[middle:]))
    yield "empty data chunk first", riff(head + data_chunk(b"") + chunk + rest)
    short = samples[:-1] if len(samples) % 2 == 0 else samples
    yield "odd data, pad", riff(head + data_chunk(short) + b"\0" + LIST)
    yield "odd data, no pad", riff(head + data_chunk(short) + LIST)
    yield "odd data, no pad, end", riff(head + data_chunk(short))
    yield "pipe", content[:4] + struct.pack("<I", 0x7FFFF024) + head[8:] + b"data\x00\xf0\xff\x7f" + samples
    yield "pipe, all ones", content[:4] + b"\xff" * 4 + head[8:] + b"data\xff\xff\xff\xff" + samples
    yield "never closed", content[:4] + bytes(4) + head[8:] + b"data" + bytes(4) + samples
    fmt = head.index(b"fmt ")
    (length,) = struct.unpack_from("<I", head, fmt + 4)
    end = fmt + 8 + length
    yield "fmt after data", riff(head[:fmt] + head[end:] + chunk + head[fmt:end] + rest)
    yield (
        "wide fmt",
        riff(
            head[:fmt] + b"fmt " + struct.pack("<I", length + 24) + head[fmt + 8 : end] + bytes(24) + head[end:] + chunk
        ),
    )
    yield "fact lies", riff(head + b"fact" + struct.pack("<II", 4, 7) + chunk + rest)


def odd_oggs(content: bytes, *, opus: bool) -> Odd:
    parts = pages(content)
    yield "chained", content + content
    yield "chained, other serial", content + b"".join(sealed(p[:14] + b"\7\7\7\7" + p[18:]) for p in parts)
    yield "no last page", b"".join(parts[:-1])
    yield "zeros after", content + bytes(512)
    yield "id3v1 after", content + ID3V1
    later = [p if n < 2 or p[6:14] == b"\xff" * 8 else granule(p, 1 << 40) for n, p in enumerate(parts)]
    yield "starts late", b"".join(later)
    later = [p if n < 2 or p[6:14] == b"\xff" * 8 else granule(p, 4800) for n, p in enumerate(parts)]
    yield "starts a little late", b"".join(later)
    for trim in (1, 300, 961, 5000):
        yield f"end trimmed {trim}", b"".join([*parts[:-1], granule(parts[-1], -trim)])
        yield f"end beyond {trim}", b"".join([*parts[:-1], granule(parts[-1], trim)])
    if opus:
        for skip in (0, 1, 312, 3840, 48_000, 65_535):
            first = bytearray(parts[0])
            struct.pack_into("<H", first, first.index(b"OpusHead") + 10, skip)
            yield f"pre-skip {skip}", sealed(bytes(first)) + b"".join(parts[1:])
        gained = bytearray(parts[0])
        struct.pack_into("<h", gained, gained.index(b"OpusHead") + 16, 1000)
        yield "gain", sealed(bytes(gained)) + b"".join(parts[1:])


def granule(page: bytes, more: int) -> bytes:
    (position,) = struct.unpack_from("<q", page, 6)
    return sealed(page[:6] + struct.pack("<q", position + more) + page[14:])


def sealed(page: bytes) -> bytes:
    return page[:22] + struct.pack("<I", ogg_crc(page[:22], bytes(4), page[26:])) + page[26:]


def is_read_as(path: Path, file: Original) -> bool:
    """Whether a file is read as the original, whatever a bare decoder makes of the tags around it."""
    try:
        return read_audio(path, rate_hz=file.rate_hz).tobytes() == file.samples.tobytes()
    except AudioError:
        return False


def tried(folder: Path, several: int) -> Iterator[tuple[Original, Path, str, Verdict]]:
    for format in [*SUBTYPES, "WAVEX"]:
        for subtype in dict.fromkeys((*SUBTYPES.get(format, ()), *MORE.get(format, ()))):
            for channels in (1, 2):
                try:
                    file = made(format, subtype, channels, folder)
                except Exception as e:  # a codec of one channel only, or one that this libsndfile cannot write
                    sys.stderr.write(f"{format} {subtype} {channels}: {e}\n")
                    continue
                path = folder / f"lie.{format.lower()}"
                for kind, content in (*single_lies(file), *several_lies(file, several), *odd_files(file)):
                    path.write_bytes(content)
                    yield file, path, kind, judge(path, file, kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--several", type=int, default=20)
    options = parser.parse_args()
    outcomes: dict[str, Counter[str]] = {}
    bad, files = [], 0
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for file, path, kind, verdict in tried(Path(folder), options.several):
            files += 1
            outcomes.setdefault(f"{file.format} {kind}", Counter())[verdict.outcome] += 1
            wrong = verdict.bad
            if kind in ("unchanged", "id3 in front") or (file.format, kind) == ("FLAC", "id3v1 after"):
                wrong = "" if is_read_as(path, file) else "a good file that is not read as it is"
            elif ONLY_AS_DECODED.match(kind) and wrong not in ("unnamed", "not what its decoder reads"):
                wrong = ""
            if kind.startswith("joined") and verdict.outcome.startswith("labelled") and file.format != "AAC":
                wrong = "labelled as the first of two"
            if wrong:
                bad.append([file.format, file.subtype, file.channels, kind, wrong, verdict.outcome, verdict.detail])
    found = {
        "files": files,
        "bad": len(bad),
        "examples": bad[:200],
        "outcomes": {k: dict(v) for k, v in outcomes.items()},
    }
    sys.stdout.write(json.dumps(found, indent=None if bad else 1) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
