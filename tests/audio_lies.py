"""Audio files of all containers, mutants of them, and what may become of a mutant. Used by tests and benchmarks."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from softlabels.audio.decode import probe_audio, read_audio
from softlabels.errors import AudioError

SUBTYPES = {
    "WAV": (
        "PCM_U8",
        "PCM_16",
        "PCM_24",
        "PCM_32",
        "FLOAT",
        "DOUBLE",
        "ULAW",
        "ALAW",
        "IMA_ADPCM",
        "MS_ADPCM",
        "GSM610",
    ),
    "RF64": ("PCM_16", "PCM_24", "FLOAT", "ULAW"),
    "W64": ("PCM_16", "PCM_24", "FLOAT", "IMA_ADPCM", "GSM610"),
    "AIFF": ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM"),
    "CAF": ("PCM_16", "PCM_24", "FLOAT", "ALAW", "ALAC_16"),
    "AU": ("PCM_16", "FLOAT", "ULAW", "G721_32"),
    "FLAC": ("PCM_16", "PCM_24"),
    "OGG": ("VORBIS",),
    "OPUS": ("OPUS",),
    "MP3": ("MPEG_LAYER_III",),
    "M4A": ("aac", "alac"),
    "AAC": ("aac",),
}
RATES = {"OPUS": (16_000, 24_000, 48_000), "OGG": (16_000, 24_000, 32_000, 44_100, 48_000)}
ONE_CHANNEL = frozenset({"GSM610", "G721_32"})
CHECKSUMMED = frozenset({"FLAC", "OGG", "OPUS", "MP3"})  # a file of these that was changed contradicts itself
RATE_STATED_ONCE = frozenset({"AIFF", "CAF", "AU"})
PLAIN = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
ONE_BYTE = frozenset({"PCM_S8", "PCM_U8", "ULAW", "ALAW"})
NOTHING_MISSING = frozenset({"grown", "lie: zero", "lie: less by 1", "lie: half", "lie: wrapped", "lie: 44"})
SIZES = {  # where size fields are: what stands before, bytes between, form
    "WAV": [(b"RIFF", 0, "<I"), (b"data", 0, "<I")],
    "RF64": [(b"ds64", 4, "<Q"), (b"ds64", 12, "<Q"), (b"ds64", 20, "<Q"), (b"data", 0, "<I")],
    "W64": [(b"riff", 12, "<Q"), (b"data", 12, "<Q")],
    "AIFF": [(b"FORM", 0, ">I"), (b"COMM", 6, ">I"), (b"SSND", 0, ">I")],
    "CAF": [(b"data", 0, ">Q"), (b"desc", 0, ">Q")],
    "AU": [(b".snd", 4, ">I")],
    "FLAC": [(b"fLaC", 18, ">I")],
    "OGG": [(b"OggS", 2, "<Q"), (b"OggS", 14, "<I")],
    "OPUS": [(b"OggS", 2, "<Q"), (b"OggS", 14, "<I")],
    "MP3": [(b"Xing", 4, ">I"), (b"Xing", 8, ">I"), (b"Info", 4, ">I"), (b"Info", 8, ">I")],
    "M4A": [
        *((name, -8, ">I") for name in (b"moov", b"mdat", b"stbl")),
        *((name, 8, ">I") for name in (b"stsz", b"stts", b"stsc", b"stco")),
        *((b"stts", 4, ">I"), (b"mdhd", 12, ">I")),
    ],
    "AAC": [],
}
KINDS = ("lie", "lie", "lie", "cut", "grown", "flip", "flips", "overwrite", "swap")
LIES = {
    "zero": lambda size, top: 0,
    "0x7ffff000": lambda size, top: 0x7FFFF000,
    "0x7fffffff": lambda size, top: 0x7FFFFFFF,
    "all ones": lambda size, top: top,
    "44": lambda size, top: 44,
    "wrapped": lambda size, top: size % 4096,
    "more by 1": lambda size, top: size + 1,
    "less by 1": lambda size, top: size - 1,
    "more by 36": lambda size, top: size + 36,
    "more by 44": lambda size, top: size + 44,
    "half": lambda size, top: size // 2,
    "double": lambda size, top: size * 2,
}


@dataclass(frozen=True, kw_only=True)
class Original:
    """A good file. samples: (frames,) what its decoder reads, mono."""

    format: str
    subtype: str
    content: bytes
    samples: np.ndarray
    rate_hz: int
    channels: int


def original(format: str, random: np.random.Generator, folder: Path, *, seconds: float = 0.5) -> Original:
    """A file of seeded length, rate, codec and number of channels."""
    subtype = str(random.choice(SUBTYPES[format]))
    rate_hz = int(random.choice(RATES.get(format, (16_000, 22_050, 24_000, 44_100, 48_000))))
    channels = 1 if subtype in ONE_CHANNEL else int(random.integers(1, 3))
    frames = int(seconds * rate_hz * random.uniform(0.5, 1.5))
    return _written(format, subtype, random.uniform(-0.4, 0.4, (frames, channels)).astype(np.float32), rate_hz, folder)


def made(format: str, subtype: str, channels: int, folder: Path) -> Original:
    """A file of a known codec and number of channels: a third of a second at 24 kHz, of an odd number of frames."""
    samples = np.random.default_rng(channels).uniform(-0.4, 0.4, (8001, channels)).astype(np.float32)
    return _written(format, subtype, samples, 24_000, folder)


def _written(format: str, subtype: str, samples: np.ndarray, rate_hz: int, folder: Path) -> Original:
    path = folder / f"original.{format.lower()}"
    if format in ("M4A", "AAC"):
        _write_by_av(path, samples, rate_hz, subtype)
    else:
        container = "OGG" if format == "OPUS" else format
        soundfile.write(path, samples, rate_hz, format=container, subtype=subtype)
    read, rate_hz, channels = read_through(path, format)
    return Original(
        format=format, subtype=subtype, content=path.read_bytes(), samples=read, rate_hz=rate_hz, channels=channels
    )


def _write_by_av(path: Path, samples: np.ndarray, rate_hz: int, codec: str) -> None:
    import av

    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(str(path), "w", format="adts" if path.suffix == ".aac" else "ipod") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        convert = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate_hz)
        for first in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[first : first + 1024].T), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, first, Fraction(1, rate_hz)
            for converted in convert.resample(frame):
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))


def read_through(path: Path, format: str) -> tuple[np.ndarray, int, int]:
    """What the bare decoder reads, from the start to the end: (frames,) mono, rate, channels."""
    if format in ("M4A", "AAC"):
        import av

        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.audio[0]
            to_float = av.AudioResampler(format="fltp")
            blocks = [part.to_ndarray().T for frame in container.decode(audio=0) for part in to_float.resample(frame)]
            rate_hz, channels = stream.rate, stream.channels
    else:
        with Straight(path) as file:
            blocks = list(_blocks(file))
            rate_hz, channels = file.samplerate, file.channels
    return mono(np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)), rate_hz, channels


class Straight(soundfile.SoundFile):
    """Does not seek after each block, which some codecs cannot, and which changes MP3."""

    def seekable(self) -> bool:
        return False


def _blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    while len(block := file.read(65_536, dtype="float32", always_2d=True)):
        yield block


def mono(samples: np.ndarray) -> np.ndarray:
    """(frames, channels) -> (frames,), as the product does."""
    with np.errstate(all="ignore"):
        total = samples[:, 0].astype(np.float64)
        for channel in range(1, samples.shape[1]):
            total += samples[:, channel]
        return (total / samples.shape[1]).astype(np.float32)


def mutant(file: Original, random: np.random.Generator, *, only_lies: bool = False) -> tuple[str, bytes]:
    """What was done, and the bytes."""
    content = bytearray(file.content)
    kind = str(random.choice(KINDS[:5] if only_lies else KINDS[2:]))
    at = int(random.integers(len(content)))
    if kind == "lie" and (lied := _lie(content, file.format, random)):
        return lied, bytes(content)
    if kind in ("flip", "lie"):
        near = int(random.integers(min(len(content), 200 if random.random() < 0.5 else len(content))))
        content[near] ^= 1 << int(random.integers(8))
        return "flip", bytes(content)
    if kind == "flips":
        for place in random.integers(len(content), size=8).tolist():
            content[place] ^= 1 << int(random.integers(8))
    elif kind == "overwrite":
        length = int(random.integers(1, 600))
        content[at : at + length] = random.bytes(len(content[at : at + length]))
    elif kind == "cut":
        del content[max(at, 4) :]
    elif kind == "grown":
        length = int(random.integers(1, 5000))
        content += file.content if random.random() < 0.3 else random.bytes(length)
    else:
        length, other = int(random.integers(16, 4000)), int(random.integers(len(content)))
        first, second = sorted((at, other))
        length = min(length, second - first, len(content) - second)
        one, two = bytes(content[first : first + length]), bytes(content[second : second + length])
        content[first : first + length], content[second : second + length] = two, one
    return kind, bytes(content)


def _lie(content: bytearray, format: str, random: np.random.Generator) -> str:
    """Let one size field lie; its name, or nothing where this file has no such field."""
    name = str(random.choice(list(LIES)))
    fields = [field for field in SIZES[format] if bytes(content).find(field[0]) >= 0]
    if not fields:
        return ""
    marker, between, form = fields[int(random.integers(len(fields)))]
    at = bytes(content).find(marker) + 4 + between
    width = struct.calcsize(form)
    (size,) = struct.unpack_from(form, content, at)
    struct.pack_into(form, content, at, LIES[name](size, 256**width - 1) % 256**width)
    return f"lie: {name}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutant. bad: empty, or why it must not be; bare: the bare decoder's: same, other, refused."""

    outcome: str
    bad: str = ""
    bare: str = ""
    detail: str = ""


def judge(path: Path, file: Original, kind: str) -> Verdict:
    """Read a mutant through the product and through the bare decoder."""
    try:
        through, rate_hz, channels = read_through(path, file.format)
    except Exception:
        through, rate_hz, channels = None, 0, 0
    same = (
        through is not None and _equal(through, file.samples) and (rate_hz, channels) == (file.rate_hz, file.channels)
    )
    bare = "refused" if through is None else "same" if same else "other"
    try:
        info = probe_audio(path)
        ours = read_audio(path, rate_hz=info.rate_hz)
    except AudioError as e:
        return Verdict(outcome=e.reason, bare=bare, detail=str(e), bad=_untrue(e, file, kind, through))
    except Exception as e:
        return Verdict(outcome="unnamed", bare=bare, bad="unnamed", detail=f"{type(e).__name__}: {e}")
    if through is None or not _equal(ours, through):
        return Verdict(outcome="labelled", bare=bare, bad="not what its decoder reads")
    if same:
        return Verdict(outcome="labelled: same", bare=bare)
    if file.format == "AAC" and kind in ("cut", "grown"):  # a stream may end, and go on, between any two frames
        return Verdict(outcome="labelled: other, which nothing in the file contradicts", bare=bare)
    if (
        _is_a_byte_more_or_less(file, through)
        or _is_within_a_packet(file, through)
        or _has_lost_its_tag(path, file)
        or _is_recoded(path, file)
    ):
        return Verdict(outcome="labelled: other, which nothing in the file contradicts", bare=bare)
    if file.format in CHECKSUMMED or len(through) != len(file.samples) or channels != file.channels:
        return Verdict(outcome="labelled: other", bare=bare, bad="contradicted by the file", detail=info.note)
    near = (
        0 if file.subtype in PLAIN or file.format == "M4A" else 0.05
    )  # where codecs state a rate of bytes, it is rounded
    if abs(rate_hz - file.rate_hz) > near * file.rate_hz and file.format not in RATE_STATED_ONCE:
        return Verdict(outcome="labelled: other", bare=bare, bad="contradicted by the file: rate", detail=info.note)
    return Verdict(outcome="labelled: other, which nothing in the file contradicts", bare=bare)


def _is_a_byte_more_or_less(file: Original, through: np.ndarray) -> bool:
    """A pad byte, where a frame is a byte: it may as well be one."""
    return file.channels == 1 and file.subtype in ONE_BYTE and abs(len(through) - len(file.samples)) == 1


def _is_within_a_packet(file: Original, through: np.ndarray) -> bool:
    """Of a GSM packet in an AIFF, only the header says how many samples count."""
    return (file.format, file.subtype) == ("AIFF", "GSM610") and abs(len(through) - len(file.samples)) < 160


def _is_recoded(path: Path, file: Original) -> bool:
    """An AU of another encoding: its header is all that says how many bytes a sample has."""
    return file.format == "AU" and path.read_bytes()[12:24] != file.content[12:24]


def _has_lost_its_tag(path: Path, file: Original) -> bool:
    """An MP3 without what said how long it is, and what its checksum is."""
    return file.format == "MP3" and not re.search(rb"Xing|Info|LAME\d|Lav[cf]", path.read_bytes()[:200])


def _equal(one: np.ndarray, two: np.ndarray) -> bool:
    return one.shape == two.shape and np.array_equal(one, two, equal_nan=True)


def _untrue(e: AudioError, file: Original, kind: str, through: np.ndarray | None) -> str:
    if e.reason == "empty" and kind != "cut":
        return "called empty"
    if e.reason == "truncated" and kind in NOTHING_MISSING:
        return "called truncated"
    if e.reason == "changed-since-probe":
        return "called changed"
    return ""


def storm(
    formats: list[str], seeds: range, folder: Path, *, only_lies: bool = False
) -> Iterator[tuple[int, str, str, Verdict]]:
    """Seed, format, what was done, verdict of each."""
    for seed in seeds:
        random = np.random.default_rng(seed)
        format = formats[seed % len(formats)]
        file = _known(format, seed // len(formats) % 7, folder)
        kind, content = mutant(file, random, only_lies=only_lies)
        path = folder / f"mutant.{format.lower()}"
        path.write_bytes(content)
        yield seed, format, kind, judge(path, file, kind)


_originals: dict[tuple[str, int], Original] = {}


def _known(format: str, number: int, folder: Path) -> Original:
    if (format, number) not in _originals:
        random = np.random.default_rng([number, *format.encode()])
        _originals[format, number] = original(format, random, folder)
    return _originals[format, number]


def pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    found = []
    while data:
        length = 27 + data[26] + sum(data[27 : 27 + data[26]])
        found.append(data[:length])
        data = data[length:]
    return found
