"""Flip random bits of shard files and count how many wrong reads go unnoticed.

    python tests/benchmarks/bit_flips.py [--flips 2000] [--seed 0] [--joins]

A dense and a sparse store of 6,522 classes. Each flip is read in two ways: `decode_shard` on the bytes, which has
nothing but Parquet's page checksums, and `SoftLabelStore.read_shard`, which holds the digest against the receipt
too. Flips are drawn over whole files, where nearly all hit a page, and as many again over footers, which no page
checksum covers. An unnoticed wrong read is one whose rows differ from the true ones without an error; a flip
without an effect on the rows (a version string) is harmless. The last line of stdout is one JSON object; exits 1 if
`read_shard` missed a single flip, or `decode_shard` one in a page.

--joins flips bits in the files of a kept join, of labels that were saved, and of the store below them: half of them in
soft arrays, which are most of what training reads. Each is read in turn by `store.join`, `load_labels` and `verify`,
in processes of their own, 50 flips each. Wrong labels without an error are what may not be; a join that is built again
and gives the true ones is "mended". Exits 1 if any were wrong, or if `verify` called a flip in an array intact.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions
from pipeline.checking.verify import verify
from softlabels import ClassList, SoftLabelStore, StoreError
from softlabels.records.shard import ShardRows, decode_shard

CLASSES, CLIPS, WINDOWS_OF_CLIP, SHARD_WINDOWS = 6522, 8, 16, 32
RATE_HZ, WINDOW_SAMPLES = 8000, 800


class Birds:
    """Logits spread like BirdNET's: nearly all far below zero, some high; drawn from a seed that the window holds."""

    name, digest, notice = "birds of the dice", "b1" * 32, ""
    classes = ClassList(tuple(f"Avis dubia{i}_Bird {i}" for i in range(CLASSES)))
    rate_hz, window_samples, batch_size = RATE_HZ, WINDOW_SAMPLES, 8
    activation, outputs = "sigmoid", "logits"

    def score(self, windows: np.ndarray) -> np.ndarray:
        return np.stack([_logits(abs(round(float(first) * 32768))) for first in windows[:, 0]])  # (batch, classes)


def _logits(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-10, 3, CLASSES)
    logits[rng.integers(CLASSES, size=5)] = rng.normal(1, 2, 5)
    return logits.astype(np.float32)


def teacher() -> Birds:
    return Birds()


def make_store(folder: Path, layout: str) -> SoftLabelStore:
    audio = folder / "audio"
    audio.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    clips = []
    for clip in range(CLIPS):
        samples = rng.uniform(-0.9, 0.9, WINDOWS_OF_CLIP * WINDOW_SAMPLES).astype(np.float32)
        soundfile.write(audio / f"c{clip}.wav", samples, RATE_HZ)
        clips.append(softlabels.Clip(clip_id=f"c{clip}", path=f"c{clip}.wav"))
    pipeline.run(
        clips,
        folder / layout,
        teacher=f"{Path(__file__).stem}:teacher",
        root=audio,
        labelling=LabelOptions(layout=layout, shard_windows=SHARD_WINDOWS),
        options=RunOptions(backend="sequential"),
    )
    return softlabels.open(folder / layout)


def equal(a: ShardRows, b: ShardRows) -> bool:
    """Bit by bit, so that a NaN or a negative zero counts as another value."""
    if not np.array_equal(a.probabilities.view(np.uint32), b.probabilities.view(np.uint32)):
        return False
    mine, theirs = a.keys(), b.keys()
    return all(mine[name].tolist() == theirs[name].tolist() for name in mine)


def outcome(read: Callable[[], ShardRows], truth: ShardRows) -> str:
    """What came of reading damaged bytes; an error that is no StoreError is one the user cannot place."""
    try:
        rows = read()
    except StoreError:
        return "noticed"
    except Exception as e:  # whatever else there is is what we are here to count
        return f"odd error {type(e).__name__}"
    return "harmless" if equal(rows, truth) else "unnoticed"


def footer_start(data: bytes) -> int:
    """Parquet ends with the footer, its length in 4 bytes, and PAR1."""
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def flip_storm(store: SoftLabelStore, flips: int, rng: random.Random, *, footers: bool) -> dict[str, Counter]:
    """reader -> outcome -> how often."""
    shards = sorted(store.receipts)
    originals = {shard: store.storage.get(store.receipts[shard].file) for shard in shards}
    truth = {shard: store.read_shard(shard) for shard in shards}
    found = {"decode_shard": Counter(), "read_shard": Counter()}
    for _ in range(flips):
        shard = rng.choice(shards)
        data = bytearray(originals[shard])
        byte = rng.randrange(footer_start(originals[shard]) if footers else 0, len(data))
        data[byte] ^= 1 << rng.randrange(8)
        damaged, path = bytes(data), store.storage.path(store.receipts[shard].file)
        in_memory = outcome(lambda d=damaged: decode_shard(d, store.spec, CLASSES), truth[shard])
        found["decode_shard"][in_memory] += 1
        path.write_bytes(damaged)
        found["read_shard"][outcome(lambda s=shard: store.read_shard(s), truth[shard])] += 1
        path.write_bytes(originals[shard])
    return found


HERE = Path(__file__).parent
KINDS = {"join": 0.5, "saved": 0.3, "store": 0.2}  # what is flipped how often
FLIPS_A_PROCESS = 50


def make_kept(folder: Path) -> None:
    """A store of six classes' worth of student, its kept join of 300 kB, and the same labels saved."""
    store = make_store(folder, "dense")
    rows = "".join(f"c{clip},c{clip}.wav,{store.classes[clip % 4]}\n" for clip in range(CLIPS))
    (folder / "data_manifest.csv").write_text(f"clip_id,path,label\n{rows}")
    labels = store.join(folder / "data_manifest.csv", classes=store.classes[:600], canary=False, root=folder / "audio")
    labels.save(folder / "saved")
    np.save(folder / "truth.npy", labels.y_true())


def files_of(folder: Path, kind: str) -> list[Path]:
    """The files of one kind, soft arrays as often as all others."""
    where = {"join": folder / "dense" / "joins", "saved": folder / "saved", "store": folder / "dense"}[kind]
    files = [path for path in sorted(where.rglob("*")) if path.is_file() and not path.name.startswith(".tmp-")]
    if kind == "store":
        return [path for path in files if "joins" not in path.parts and path.name not in ("run.json", "README.md")]
    soft = [path for path in files if path.name.startswith("soft")]
    return soft * max(1, len(files) // len(soft)) + files


def read_labels(folder: Path, kind: str) -> np.ndarray:
    if kind == "saved":
        return softlabels.load_labels(folder / "saved", verify=False).y_true()
    store, options = softlabels.open(folder / "dense"), {"canary": False, "root": folder / "audio"}
    with tempfile.TemporaryDirectory() as elsewhere:  # where nothing is kept: the join is made from the damaged store
        cache = elsewhere if kind == "store" else None
        joined = store.join(folder / "data_manifest.csv", classes=store.classes[:600], cache_dir=cache, **options)
        return joined.y_true()


def outcome_of_labels(folder: Path, kind: str, damaged: Path) -> str:
    """What came of reading labels of which one file is damaged."""
    try:
        labels = read_labels(folder, kind)
    except softlabels.SoftLabelsError:
        return "noticed"
    except Exception as e:  # whatever else there is is what we are here to count
        return f"odd error {type(e).__name__}"
    if labels.tobytes() != np.load(folder / "truth.npy").tobytes():
        return "unnoticed"
    return "harmless" if damaged.exists() else "mended"


def noticed_by_verify(folder: Path) -> bool:
    try:
        return not verify(softlabels.open(folder / "dense"), jobs=1).good
    except softlabels.SoftLabelsError:
        return True


def flip_kept(folder: Path, flips: int, seed: int) -> dict[str, int]:
    """Flip, read, put back; in this process."""
    logging.disable()
    rng, found = random.Random(seed), Counter()
    for _ in range(flips):
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        path = rng.choice(files_of(folder, kind))
        original = path.read_bytes()
        data, byte = bytearray(original), rng.randrange(len(original))
        data[byte] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))
        state = path.stat().st_mtime_ns
        if kind == "join" and rng.random() < 0.2:
            found[f"{kind}: {'noticed' if noticed_by_verify(folder) else 'unnoticed'} by verify"] += 1
        said = outcome_of_labels(folder, kind, path)
        if said == "harmless" and (path.stat().st_mtime_ns != state or path.read_bytes() != bytes(data)):
            said = "mended"
        found[f"{kind}: {said}"] += 1
        if path.parent.is_dir():
            path.write_bytes(original)
    return dict(found)


def joins(flips: int, seed: int) -> int:
    """The figures of --joins; the exit status."""
    total: Counter = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_kept(folder)
        for first in range(0, flips, FLIPS_A_PROCESS):
            code = f"import bit_flips, json; print(json.dumps(bit_flips.flip_kept(bit_flips.Path({name!r}), "
            code += f"{min(FLIPS_A_PROCESS, flips - first)}, {seed + first})))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=HERE)
            if done.returncode:
                print(done.stderr[-2000:])
            total += Counter(json.loads(done.stdout)) if not done.returncode else Counter({"process lost": 1})
    for said, count in sorted(total.items()):
        print(f"{said:<32} {count:>6,}")
    print(json.dumps({"flips": flips, **dict(sorted(total.items()))}))
    return 1 if any(wrong in said for said in total for wrong in ("unnoticed", "odd error", "lost")) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--joins", action="store_true", help="of kept joins, saved labels and their store")
    args = parser.parse_args()
    pyarrow = importlib.metadata.version("pyarrow")
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; pyarrow {pyarrow}")
    if args.joins:
        return joins(args.flips, args.seed)
    rng, figures = random.Random(args.seed), {"flips": args.flips}
    with tempfile.TemporaryDirectory() as folder:
        for where, footers in (("anywhere", False), ("footer", True)):
            total = {"decode_shard": Counter(), "read_shard": Counter()}
            for layout in ("dense", "sparse"):
                store = make_store(Path(folder), layout)
                for reader, counts in flip_storm(store, args.flips // 2, rng, footers=footers).items():
                    total[reader] += counts
                    print(f"{where:<9} {layout:<7} {reader:<13} {dict(counts.most_common())}")
            figures[where] = {reader: dict(sorted(counts.items())) for reader, counts in total.items()}
    unnoticed = {f"{w} {r}": figures[w][r].get("unnoticed", 0) for w in ("anywhere", "footer") for r in figures[w]}
    for name, count in unnoticed.items():
        print(f"silent wrong reads, {name}: {count} of {args.flips}")
    print(json.dumps(figures))
    missed = unnoticed["anywhere decode_shard"] + unnoticed["anywhere read_shard"] + unnoticed["footer read_shard"]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
