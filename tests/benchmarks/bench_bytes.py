"""Bytes a window of every layout, and how far what is stored is from what the teacher said.

    python tests/benchmarks/bench_bytes.py RECORDING [CLASSES]

Labels RECORDING with BirdNET in each layout, alone, and in copies rotated by random offsets that fill one shard as
in real use (320 windows), and reads the stores back through `softlabels.open(...).read()`. CLASSES is a list of
classes for --keep-classes, without and with components. The divergence is the Bernoulli KL from the teacher's unrounded
float64 probabilities to the stored ones, in nats, summed over the classes of a window. The last line is one JSON
object; exits 1 if a target is missed.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

import pipeline
import softlabels
from pipeline.planning.prepare import LabelOptions
from pipeline.running.run import RunOptions
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.scoring import wide_probabilities
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.decode import read_audio
from softlabels.windows import WindowSpec, cut_windows

COPIES = 8
MOST_BYTES = {"dense": 10_800, "sparse 1e-3": 320, "sparse 1e-4": 1200, "100 classes": 250, "100 + 64": 450}
MOST_DENSE_KL = 1e-4


def layouts(classes: Path | None) -> dict[str, LabelOptions]:
    options = {
        "dense": LabelOptions(shard_windows=1024),
        "sparse 1e-3": LabelOptions(shard_windows=1024, layout="sparse", min_probability=1e-3),
        "sparse 1e-4": LabelOptions(shard_windows=1024, layout="sparse", min_probability=1e-4),
    }
    if classes is not None:
        kept = len(softlabels.ClassList.from_file(classes))
        options[f"{kept} classes"] = LabelOptions(shard_windows=1024, keep_classes=classes, components=0)
        options[f"{kept} + 64"] = LabelOptions(shard_windows=1024, keep_classes=classes)
    return options


def write_copies(folder: Path, recording: Path) -> list[softlabels.Clip]:
    """The recording itself and copies of it, each rotated by a random number of samples."""
    samples, rate_hz = soundfile.read(recording, dtype="int16")
    offsets = [0, *np.random.default_rng(0).integers(1, len(samples), COPIES - 1)]
    for k, offset in enumerate(offsets):
        soundfile.write(folder / f"{k}.flac", np.roll(samples, offset), rate_hz)
    return [softlabels.Clip(clip_id=str(k), path=f"{k}.flac") for k in range(COPIES)]


def teacher_says(folder: Path, clips: list[softlabels.Clip]) -> np.ndarray:
    """(windows, classes) float64, never rounded, clip by clip."""
    teacher = load_teacher(TeacherChoice())
    window = WindowSpec.from_overlap(teacher.rate_hz, teacher.window_samples, overlap_s=0.0)
    scores = []
    for clip in clips:
        audio = read_audio(folder / clip.path, rate_hz=teacher.rate_hz)
        scores += [teacher.score(w[None]).copy() for w in cut_windows([audio], window, window.count(len(audio)))]
    return wide_probabilities(np.concatenate(scores), teacher.activation)


def bernoulli_kl(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(windows,) nats: sum over classes of q log(q / p) + (1 - q) log((1 - q) / (1 - p)); all float64."""
    return (q * np.log(q / p) + (1 - q) * (np.log1p(-q) - np.log1p(-p))).sum(axis=1)


def measure(folder: Path, clips: list[softlabels.Clip], options: LabelOptions, said: np.ndarray) -> dict[str, float]:
    """Label, read back and compare; `said` is (windows, classes) of the very clips."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        in_here = RunOptions(backend="sequential")
        summary = pipeline.run(clips, Path(temporary) / "store", root=folder, labelling=options, options=in_here)
        store = softlabels.open(Path(temporary) / "store")
        rows = list(store.read())
    if len(rows) != 1 or len(rows[0]) != len(said):
        raise SystemExit(f"expected one shard of {len(said)} windows, got {[len(shard) for shard in rows]}")
    stored, names = rows[0].probabilities.astype(np.float64), load_teacher(TeacherChoice()).classes
    kept = np.array([names.index(name) for name in store.classes])
    divergence = bernoulli_kl(said[:, kept], stored)
    return {
        "windows": len(stored),
        "classes": len(kept),
        "bytes_per_window": summary.shard_bytes / len(stored),
        "mean_kl": float(divergence.mean()),
        "max_kl": float(divergence.max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("classes", type=Path, nargs="?")
    args = parser.parse_args()
    version = importlib.metadata.version("pyarrow")
    print(f"{platform.machine()}, Python {platform.python_version()}, pyarrow {version}")
    print(f"{'layout':<13}windows   bytes a window   KL mean, nats    KL max")
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = write_copies(folder, args.recording)
        said = teacher_says(folder, clips)
        alone = len(said) // COPIES
        for name, options in layouts(args.classes).items():
            for count, suffix in ((1, " alone"), (COPIES, "")):
                row = measure(folder, clips[:count], options, said[: alone * count])
                figures[name + suffix] = row
                values = f"{row['bytes_per_window']:>14,.0f}   {row['mean_kl']:>13.2e}   {row['max_kl']:.2e}"
                print(f"{name:<13}{row['windows']:>7}   {values}", flush=True)
    missed = [name for name, most in MOST_BYTES.items() if name in figures and figures[name]["bytes_per_window"] > most]
    missed += ["dense KL"] * (figures["dense"]["max_kl"] > MOST_DENSE_KL)
    print("missed: " + (", ".join(missed) or "nothing"))
    print(json.dumps({"missed": missed, **figures}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
