"""Change audio files of twelve containers, and count what is read as other audio without a word.

    python tests/benchmarks/audio_mutants.py [--mutants 20000] [--lies 2000] [--stretches 500] [--shards 3] [--seed 0]

Mutants: a bit or eight flipped, a stretch overwritten or swapped, cut, grown, a size field that lies. Lies: only size
fields, cuts and growth. Each is read through the product and through the bare decoder (libsndfile, PyAV), in processes
with limits, in memory (/dev/shm). What counts against the product: `dead` processes; `unnamed` exceptions;
`silent`: labelled, though other than the file before it was changed, and the file's own checksums (FLAC, OGG, MP3) or
sizes say so; `not as decoded`: labelled with other samples than the decoder reads through from the start; `untrue`:
called truncated or empty where nothing is missing. Stretches: files and starts drawn by chance, most within the last
9,000 frames, held against reading through, bit for bit. Shards: so many files of each container and codec, labelled
into stores of 7, 30 and 5,000 windows a shard, at their own rate and resampled: every label has to be the same. Prints
one JSON object; exits 1 if anything counts.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
from audio_lies import SUBTYPES, original, storm
from standin import StandIn

import pipeline
import softlabels
from softlabels.audio.decode import read_audio

FORMATS = list(SUBTYPES)
PIECE = 500  # mutants a process
MOST_MEMORY, MOST_SECONDS = 4 << 30, 300


def child(first: int, stop: int, *, only_lies: bool) -> None:
    """One line a mutant; the last line of a process that dies says which one killed it."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for seed, format, kind, verdict in storm(FORMATS, range(first, stop), Path(folder), only_lies=only_lies):
            row = [seed, format, kind, verdict.outcome, verdict.bad, verdict.bare, verdict.detail]
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


def mutants(first: int, count: int, *, only_lies: bool) -> dict[str, object]:
    rows, dead, at = [], [], first
    while at < first + count:
        stop = min(at + PIECE, first + count)
        command = [sys.executable, __file__, "--child", str(at), str(stop), *(["--only-lies"] if only_lies else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, env=os.environ)
        found = [json.loads(line) for line in done.stdout.decode().splitlines() if line.endswith("]")]
        rows += found
        at = found[-1][0] + 1 if found else at
        if at < stop:
            dead.append([at, FORMATS[at % len(FORMATS)], done.returncode])
            at += 1
    bad = Counter(_fault(row[4]) for row in rows if row[4])
    return {
        "mutants": count,
        "outcomes": dict(Counter(row[3] for row in rows).most_common()),
        "dead": len(dead),
        **{fault: bad[fault] for fault in ("unnamed", "silent", "not as decoded", "untrue")},
        "bare decoders": dict(Counter(row[5] for row in rows)),
        "silent by format, bare": dict(Counter(row[1] for row in rows if row[5] == "other")),
        "examples": [row for row in rows if row[4]][:20] + dead[:20],
    }


def _fault(bad: str) -> str:
    if bad.startswith("called"):
        return "untrue"
    return {"unnamed": "unnamed", "not what its decoder reads": "not as decoded"}.get(bad, "silent")


def stretches(first: int, count: int) -> dict[str, object]:
    wrong = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for seed in range(first, first + count):
            random = np.random.default_rng(seed)
            file = original(FORMATS[seed % len(FORMATS)], random, Path(folder), seconds=float(random.uniform(1, 6)))
            path = Path(folder) / "stretch"
            path.write_bytes(file.content)
            frames = len(file.samples)
            for near in (frames, *[min(9000, frames)] * 4):
                start = frames - int(random.integers(1, near + 1))
                stop = int(random.integers(start, frames + 1))
                stretch = read_audio(path, rate_hz=file.rate_hz, start=start, stop=stop)
                if stretch.tobytes() != file.samples[start:stop].tobytes():
                    wrong.append([seed, file.format, file.subtype, start, stop])
    return {"files": count, "stretches": 5 * count, "wrong": len(wrong), "examples": wrong[:20]}


def shards(count: int) -> dict[str, object]:
    """Label the same files into shards of three sizes."""
    wrong = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        audio, names = Path(folder, "audio"), []
        audio.mkdir()
        for format in FORMATS:
            for number in range(count * len(SUBTYPES[format])):
                random = np.random.default_rng([number, *format.encode()])
                file = original(format, random, Path(folder), seconds=float(random.uniform(3, 8)))
                names.append(f"{format}-{file.subtype}-{number}")
                (audio / names[-1]).write_bytes(file.content)
        rows = "".join(f"{name},{name}\n" for name in names)
        (audio / "data_manifest.csv").write_text(f"clip_id,path\n{rows}")
        windows = 0
        for teacher in ("standin:teacher", "audio_mutants:at_24_khz"):
            stores = {n: Path(folder, f"{teacher[-3:]}{n}") for n in (7, 30, 5000)}
            found = [_labels(audio / "data_manifest.csv", store, teacher, n) for n, store in stores.items()]
            windows += len(found[0])
            for name in names:
                labels = [{key: row for key, row in each.items() if key[0] == name} for each in found]
                if not labels[0] or any(each != labels[0] for each in labels):
                    wrong.append(name)
    return {"files": len(names), "windows": windows, "wrong": len(wrong), "examples": wrong[:20]}


class At24kHz(StandIn):
    """One that some of the files need no resampling for."""

    rate_hz, window_samples = 24_000, 2400
    digest = hashlib.sha256(b"at 24 kHz").hexdigest()


def at_24_khz() -> At24kHz:
    return At24kHz()


def _labels(manifest: Path, store: Path, teacher: str, shard_windows: int) -> dict[tuple[str, int], bytes]:
    pipeline.run(
        manifest,
        store,
        teacher=teacher,
        labelling=pipeline.LabelOptions(shard_windows=shard_windows),
        options=pipeline.RunOptions(backend="sequential"),
    )
    table = softlabels.open(store).to_pandas()
    keys = zip(table["clip_id"], table["window_index"], strict=True)
    return {key: np.asarray(row).tobytes() for key, row in zip(keys, table["probabilities"], strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--lies", type=int, default=2000)
    parser.add_argument("--stretches", type=int, default=500)
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--only-lies", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, only_lies=options.only_lies)
        return
    found = {
        "machine": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in ("soundfile", "av", "numpy")}
        | {"libsndfile": soundfile.__libsndfile_version__},
        "mutants": mutants(options.seed, options.mutants, only_lies=False),
        "lies": mutants(options.seed, options.lies, only_lies=True),
        "stretches": stretches(options.seed, options.stretches),
        "shards": shards(options.shards),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    faults = ("dead", "unnamed", "silent", "not as decoded", "untrue")
    sys.exit(
        any(found[part][fault] for part in ("mutants", "lies") for fault in faults)
        or found["stretches"]["wrong"]
        or found["shards"]["wrong"]
    )


if __name__ == "__main__":
    main()
