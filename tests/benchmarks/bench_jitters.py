"""How much of BirdNET's answer is chance, and what --jitters takes off it: divergence between independent label sets.

    python tests/benchmarks/bench_jitters.py RECORDING [--jitters 1 2 4 8] [--sets 4] [--margin 0.05]

Each set labels the whole recording after a random 0 to 50 ms have been cut off its start, so that two sets hear the
same windows at another phase. The divergence is the Bernoulli KL in nats, summed over all classes of a window, the
mean over all pairs of sets, both ways. Time is that of a warm process, from plan to closed store. The last line is one
JSON object.
"""

import argparse
import importlib.metadata
import itertools
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from bench_bytes import bernoulli_kl
from bench_teacher import quietly

import pipeline
import softlabels
from pipeline.planning.prepare import LabelOptions
from pipeline.running.run import RunEvents, RunOptions


def write_sets(folder: Path, recording: Path, sets: int, most_s: float) -> list[softlabels.Clip]:
    """Copies of the recording that begin at random moments of its first 50 ms, all of one length."""
    samples, rate_hz = soundfile.read(recording, dtype="int16")
    margin = round(most_s * rate_hz)
    starts = np.random.default_rng(0).integers(0, margin + 1, sets)
    for k, start in enumerate(starts):
        soundfile.write(folder / f"{k}.flac", samples[start : len(samples) - margin + start], rate_hz)
    return [softlabels.Clip(clip_id=str(k), path=f"{k}.flac") for k in range(sets)]


def label(folder: Path, clips: list[softlabels.Clip], jitters: int) -> tuple[np.ndarray, float]:
    """(sets, windows, classes) float64 stored probabilities, and the seconds they took."""
    planned = []
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        store = Path(temporary) / "store"
        events = RunEvents(on_plan=lambda *_: planned.append(time.perf_counter()))
        labelling, here = LabelOptions(jitters=jitters, shard_windows=1024), RunOptions(backend="sequential")
        pipeline.run(clips, store, root=folder, labelling=labelling, options=here, events=events)
        seconds = time.perf_counter() - planned[0]
        rows = next(softlabels.open(store).read())
    return rows.probabilities.astype(np.float64).reshape(len(clips), -1, rows.probabilities.shape[1]), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--jitters", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sets", type=int, default=4, help="independent label sets, default 4: 12 ordered pairs")
    parser.add_argument("--margin", type=float, default=0.05, metavar="SECONDS", help="the largest shift, default 0.05")
    args = parser.parse_args()
    version = importlib.metadata.version("ai-edge-litert")
    print(f"{platform.machine()}, Python {platform.python_version()}, LiteRT {version}")
    print("jitters   KL between sets, nats   top class equal   ms a window   x the time of the first")
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = write_sets(folder, args.recording.resolve(), args.sets, args.margin)
        label(folder, clips[:1], args.jitters[0])  # warms up
        for jitters in args.jitters:
            sets, seconds = quietly(label, folder, clips, jitters)
            pairs = list(itertools.permutations(sets, 2))
            row = {
                "kl": float(np.mean([bernoulli_kl(a, b).mean() for a, b in pairs])),
                "top_class_equal": float(np.mean([(a.argmax(1) == b.argmax(1)).mean() for a, b in pairs])),
                "ms_per_window": seconds / sets.shape[0] / sets.shape[1] * 1e3,
            }
            row["cost"] = row["ms_per_window"] / next(iter(figures.values()), row)["ms_per_window"]
            figures[str(jitters)] = row
            agreement = f"{row['kl']:>21.3f}   {row['top_class_equal']:>15.2f}"
            print(f"{jitters:>7}   {agreement}   {row['ms_per_window']:>11.1f}   {row['cost']:>.2f}", flush=True)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
