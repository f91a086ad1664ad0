"""What our teacher says beside what the official package birdnet 1.3.1 says, on a recording at 48 kHz.

    python tests/benchmarks/parity.py RECORDING [--python VENV/bin/python]

--python: of an environment with `pip install birdnet==1.3.1`; without it a bare LiteRT interpreter stands in for the
package. Both hear the same model file. Compared are logits: the teacher object's own output, folded and not, and what
`softlabels run` stored, which differs by its rounding. The last line is one JSON object; exits 1 beyond 1e-3.
"""

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from check_recording import direct_probabilities

import pipeline
import softlabels
from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.scoring import wide_probabilities
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.decode import read_audio
from softlabels.records.shard import round_probabilities
from softlabels.windows import WindowSpec, cut_windows

CONTENDERS = str(Path(__file__).with_name("contenders.py"))
MOST_DIFFERENCE = 1e-3  # of a logit


def peer_logits(python: str, recording: Path) -> np.ndarray:
    """(windows, classes) float32 of birdnet 1.3.1, by its documented call."""
    with tempfile.TemporaryDirectory() as folder:
        model, labels = map(str, find_birdnet())
        command = [python, CONTENDERS, "logits", model, labels, f"{folder}/logits.npy"]
        done = subprocess.run(command, input=str(recording), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"birdnet exited {done.returncode}: {done.stderr[-2000:]}")
        return np.load(f"{folder}/logits.npy")


def our_logits(recording: Path, *, fold: bool) -> np.ndarray:
    """(windows, classes) float32, the teacher object's own output on audio read as labelling reads it."""
    teacher = load_teacher(TeacherChoice(fold=fold))
    window = WindowSpec.from_overlap(teacher.rate_hz, teacher.window_samples, overlap_s=0.0)
    audio = read_audio(recording, rate_hz=teacher.rate_hz)
    windows = cut_windows([audio], window, window.count(len(audio)))
    return np.concatenate([teacher.score(samples[None]).copy() for samples in windows])


def stored_probabilities(recording: Path, *, fold: bool) -> np.ndarray:
    """(windows, classes) float32 as a store reads them back."""
    with tempfile.TemporaryDirectory() as folder:
        clips = [softlabels.Clip(clip_id="it", path=recording.name)]
        store = Path(folder) / "store"
        pipeline.run(clips, store, root=recording.parent, teacher=TeacherChoice(fold=fold), jobs=1)
        rows = next(softlabels.open(store).read())
        return rows.probabilities


def compare(recording: Path, expected: np.ndarray, *, fold: bool) -> dict[str, float]:
    """How far we are from the package, before and after the rounding of a store."""
    ours, stored = our_logits(recording, fold=fold), stored_probabilities(recording, fold=fold)
    unrounded = wide_probabilities(ours, "sigmoid").astype(np.float32)
    wide = stored.astype(np.float64)
    return {
        "max_logit_difference": float(np.abs(ours - expected).max()),
        "top_class_equal": float((ours.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        "stored_is_its_rounding": bool(np.array_equal(stored, round_probabilities(unrounded))),
        "max_logit_difference_stored": float(np.abs(np.log(wide / (1 - wide)) - expected).max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--python", help="of an environment with birdnet 1.3.1")
    args = parser.parse_args()
    recording = args.recording.resolve()
    if args.python:
        peer, expected = "birdnet 1.3.1", peer_logits(args.python, recording)
    else:
        probabilities = direct_probabilities(recording)
        peer, expected = "bare LiteRT", np.log(probabilities / (1 - probabilities))
    print(f"{platform.machine()}, Python {platform.python_version()}, LiteRT {version('ai-edge-litert')}; peer: {peer}")
    print(f"{len(expected)} windows of {expected.shape[1]} classes")
    figures = {
        name: compare(recording, expected, fold=fold) for name, fold in {"folded": True, "as it is": False}.items()
    }
    for name, values in figures.items():
        print(f"{name:<10}" + "   ".join(f"{key} {value:.3g}" for key, value in values.items()))
    good = all(v["max_logit_difference"] <= MOST_DIFFERENCE and v["stored_is_its_rounding"] for v in figures.values())
    print(json.dumps({"good": good, "peer": peer, **figures}))
    return 0 if good else 1


def version(package: str) -> str:
    return importlib.metadata.version(package)


if __name__ == "__main__":
    sys.exit(main())
