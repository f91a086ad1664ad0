"""How good are labels for any crop: interpolated from a store's windows, beside scoring the crop itself.

    python tests/benchmarks/bench_crops.py RECORDING [--crops 60] [--window-s 2.5]

The real BirdNET scores random crops of one window's length; stores of the recording at hops of 3, 1.5, 1 and 0.5 s
answer the same crops through `labels.soft_at`. Distance is the Bernoulli KL in nats, scored crop to interpolated label,
summed over the teacher's classes and averaged over the crops. Beside it the teacher's own jitter, the KL to the same
crop one sample later, and what every interpolation has to beat, the KL to the mean over all windows.

Crops of --window-s, shorter than the teacher's window, are held against the teacher's scores of the crop padded with
zeros to its window. "overlap", which random crops have in batches, weights windows by what they share with the crop;
"begins" and "centred" interpolate between windows as for the teacher's window that begins with the crop, or has its
centre. Without crops= a shorter window has the label of the teacher's window that begins with it: "scored window that
begins so". That one shares its phase with the padded crop: the lines with "shifted" hold the same against the mean over
crops that are padded before too, by up to 25 ms.

The last line of stdout is one JSON object.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np

import pipeline
import softlabels
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.audio.decode import read_audio
from softlabels.batches.rows import CropRule as How

HOPS_S = (3.0, 1.5, 1.0, 0.5)
SHIFTS = (0, 37, 101, 233, 411, 603, 857, 1201)  # samples
LOWEST = 2.0**-126  # the smallest normal float32: a stored probability of 0 needs a logarithm
HIGHEST = 1 - 2.0**-24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--crops", type=int, default=60)
    parser.add_argument("--window-s", type=float, default=2.5)
    arguments = parser.parse_args()
    recording = arguments.recording.resolve()
    teacher = load_teacher(TeacherChoice())
    samples = read_audio(recording, rate_hz=teacher.rate_hz)  # (samples,)
    starts = random_starts(arguments.crops, len(samples) - teacher.window_samples)
    print_machine(recording, len(samples) / teacher.rate_hz, len(teacher.classes), len(starts))
    scored = score_crops(teacher, samples, starts)  # (crops, classes)
    later = score_crops(teacher, samples, starts + 1)
    with tempfile.TemporaryDirectory() as folder:
        joined = {hop_s: label_recording(recording, Path(folder), hop_s, teacher) for hop_s in HOPS_S}
        distances = distances_of(joined, recording.name, starts, scored, teacher)
        constant = joined[min(HOPS_S)].soft().mean(axis=0, dtype=np.float64)  # (classes,)
        distances["one sample later"] = divergence(scored, later)
        distances["constant"] = divergence(scored, constant)
        length = round(arguments.window_s * teacher.rate_hz)
        shorter = shorter_distances(joined, recording.name, starts, samples, length, teacher)
        shorter["constant"] = divergence(score_crops(teacher, samples, starts, length), constant)
    print_table("KL to the scored crop, nats", distances)
    kept = (scored.argmax(axis=1) == later.argmax(axis=1)).mean()
    print(f"\none sample later the teacher's top class is the same on {kept:.0%} of the crops")
    print_table(f"KL to the scored crop of {arguments.window_s:g} s, padded with zeros, nats", shorter)
    means = {name: round(float(each.mean()), 4) for name, each in distances.items()}
    means |= {f"{arguments.window_s:g} s, {name}": round(float(each.mean()), 4) for name, each in shorter.items()}
    print(json.dumps(means))


def random_starts(crops: int, last: int) -> np.ndarray:
    """(crops,) int64 first samples, so that crop and the one a sample later lie within the recording."""
    if last < 1:
        raise SystemExit("recording: expected more than one window of audio; name a longer one")
    return np.sort(np.random.default_rng(0).integers(0, last, crops))


def distances_of(
    joined: dict[float, softlabels.JoinedLabels], clip: str, starts: np.ndarray, scored: np.ndarray, teacher: Teacher
) -> dict[str, np.ndarray]:
    """Crops of the teacher's length: by every rule, from every store."""
    clips, start_s = [clip] * len(starts), starts / teacher.rate_hz
    return {
        f"hop {hop_s:g} s, {how}": divergence(scored, labels.soft_at(clips, start_s, how=how))
        for hop_s, labels in joined.items()
        for how in get_args(How)
    }


def shorter_distances(
    joined: dict[float, softlabels.JoinedLabels],
    clip: str,
    starts: np.ndarray,
    samples: np.ndarray,
    length: int,
    teacher: Teacher,
) -> dict[str, np.ndarray]:
    """Crops of another length: `starts` are those of the teacher's windows with the same centres."""
    clips, start_s = [clip] * len(starts), starts / teacher.rate_hz
    own = starts + (teacher.window_samples - length) // 2
    scored = score_crops(teacher, samples, own, length)
    own_s, duration_s = own / teacher.rate_hz, length / teacher.rate_hz
    distances = {}
    for hop_s, labels in joined.items():
        for place, at_s in (("begins", own_s), ("centred", start_s)):
            labelled = labels.soft_at(clips, at_s, how="linear")
            distances[f"hop {hop_s:g} s, {place} linear"] = divergence(scored, labelled)
        overlap = labels.soft_at(clips, own_s, duration_s, how="overlap")
        distances[f"hop {hop_s:g} s, overlap"] = divergence(scored, overlap)
    shifted = np.mean([score_crops(teacher, samples, own, length, before=shift) for shift in SHIFTS], axis=0)
    for place, of in (("begins", own), ("is centred", starts)):
        window = score_crops(teacher, samples, of)
        distances[f"scored window that {place} so"] = divergence(scored, window)
        distances[f"shifted, window that {place} so"] = divergence(shifted, window)
    distances["one sample later"] = divergence(scored, score_crops(teacher, samples, own + 1, length))
    return distances


def score_crops(
    teacher: Teacher, samples: np.ndarray, starts: np.ndarray, length: int | None = None, *, before: int = 0
) -> np.ndarray:
    """(crops, classes) float64 probabilities, by the teacher itself, of crops padded with zeros to its window."""
    window = teacher.window_samples
    cut = [samples[start : start + (window if length is None else length)] for start in starts]
    crops = [np.pad(crop, (before, window - before - len(crop))) for crop in cut]
    logits = np.concatenate([teacher.score(crop[None]).copy() for crop in crops])  # (crops, classes)
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def label_recording(recording: Path, folder: Path, hop_s: float, teacher: Teacher) -> softlabels.JoinedLabels:
    """The recording as one clip, labelled on a grid of its own and joined."""
    manifest = folder / "data_manifest.csv"
    softlabels.write_manifest([softlabels.Clip(clip_id=recording.name, path=recording.name)], manifest)
    overlap_s = teacher.window_samples / teacher.rate_hz - hop_s
    store = folder / f"hop_{hop_s:g}"
    labelling = pipeline.LabelOptions(overlap_s=overlap_s)
    pipeline.run(manifest, store, root=recording.parent, labelling=labelling)
    return softlabels.open(store).join(manifest, root=recording.parent)


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(crops,) nats: KL of Bernoulli distributions, (crops, classes) each, summed over the classes in float64."""
    p, q = (np.clip(x.astype(np.float64), LOWEST, HIGHEST) for x in (p, q))
    return (p * np.log(p / q) + (1 - p) * (np.log1p(-p) - np.log1p(-q))).sum(axis=-1)


def print_machine(recording: Path, seconds: float, classes: int, crops: int) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "numpy", "soxr")}
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; {versions}")
    print(f"{recording.name}: {seconds:.0f} s, {crops} crops, {classes} classes")


def print_table(title: str, distances: dict[str, np.ndarray]) -> None:
    """Mean and its standard error, and the median: a few crops with a loud bird weigh most."""
    print(f"\n{title}\n{'':<36}{'mean':>8}{'± s.e.':>8}{'median':>8}{'/ one sample later':>20}")
    jitter = distances["one sample later"].mean()
    for name, each in distances.items():
        error = each.std(ddof=1) / np.sqrt(len(each))
        print(f"{name:<36}{each.mean():8.3f}{error:8.3f}{np.median(each):8.3f}{each.mean() / jitter:20.2f}")


if __name__ == "__main__":
    main()
