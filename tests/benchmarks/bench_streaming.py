"""What an epoch of streamed audio costs for each hour of it, by the length of the recording and by the order.

    python tests/benchmarks/bench_streaming.py [--audio FILE] [--minutes 5 15 30 60] [--clips 1000] [--rounds 3]
                                               [--workers 2]

One FLAC at 48 kHz of each length, made of FILE (repeated) or of noise, and CLIPS of 3 s; the student hears 3 s windows
at 24 kHz. An epoch is all batches of 64 by a fresh reader, taken by WORKERS threads as tf.data takes them, or by none.
Beside it stands the same audio decoded by soundfile and resampled by soxr in blocks, file after file, and nothing else.
Candidates take turns; the best of all rounds counts. The last line of stdout is one JSON object: seconds an hour of
audio, each over those of plain decoding, and `linear`, the largest over the smallest among the lengths.
"""

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
import soxr

from softlabels.audio.decode import probe_audio
from softlabels.batches.order import recordings_order
from softlabels.batches.rows import RowPlaces, WindowSound
from softlabels.batches.window_audio import WindowAudio
from softlabels.windows import WindowSpec

OWN_HZ, STUDENT_HZ, SECONDS, BATCH = 48_000, 24_000, 3, 64
GRID = WindowSpec(rate_hz=OWN_HZ, window_samples=SECONDS * OWN_HZ, hop_samples=SECONDS * OWN_HZ)


class Windows:
    """All windows of some files, as rows that can be heard."""

    def __init__(self, root: Path, paths: list[str]) -> None:
        self.root, self.window, self.paths = root, GRID, paths
        rows = [_clip(root, path) for path in paths]
        self.clips = pa.Table.from_pylist(rows)
        counts = [GRID.count(row["frames"]) for row in rows]
        self.clip_row = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
        self.window_index = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
        self.hours = sum(row["frames"] for row in rows) / OWN_HZ / 3600

    def sounds_of(self, rows: np.ndarray) -> list[WindowSound]:
        return WindowSound.of_rows(self.clips, self.clip_row[rows], self.window_index[rows], GRID)

    def sound_of(self, row: int) -> WindowSound:
        return self.sounds_of(np.array([row]))[0]

    def order(self, shuffle: bool | str) -> np.ndarray:
        generator = np.random.default_rng(0)
        if shuffle == "recordings":
            places = RowPlaces.of_rows(self.clips, self.clip_row, self.window_index, GRID)
            return recordings_order(places, OWN_HZ, GRID.window_samples, generator)
        return generator.permutation(len(self.clip_row)) if shuffle else np.arange(len(self.clip_row))


def _clip(root: Path, path: str) -> dict:
    info = probe_audio(root / path)
    facts = {"container": info.container, "frames": info.frames, "rate_hz": info.rate_hz, "channels": info.channels}
    sha256 = hashlib.sha256((root / path).read_bytes()).hexdigest()
    return {"clip_id": path, "path": path, "sha256": sha256, "reason": "", "start": 0, "end": info.frames, **facts}


def make_audio(folder: Path, source: str, minutes: list[int], clips: int) -> None:
    """Files of each length, and clips of 3 s."""
    if source:
        sound, rate_hz = soundfile.read(source, dtype="float32", always_2d=True)
        sound = soxr.resample(sound[:, 0], rate_hz, OWN_HZ)
    else:
        sound = np.random.default_rng(0).normal(0, 0.05, 60 * OWN_HZ).astype(np.float32)
    for length in minutes:
        soundfile.write(folder / f"{length}.flac", np.resize(sound, length * 60 * OWN_HZ), OWN_HZ, subtype="PCM_16")
    for n in range(clips):
        first = n * 7919 % (len(sound) - SECONDS * OWN_HZ)
        soundfile.write(folder / f"clip{n}.flac", sound[first : first + SECONDS * OWN_HZ], OWN_HZ, subtype="PCM_16")


def plain(windows: Windows) -> None:
    """Decode and resample every file once, in blocks, and keep nothing."""
    for path in windows.paths:
        resampler = soxr.ResampleStream(OWN_HZ, STUDENT_HZ, 1, dtype="float32", quality="HQ")
        with soundfile.SoundFile(windows.root / path) as file:
            for block in file.blocks(65_536, dtype="float32"):
                resampler.resample_chunk(block)
        resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def epoch(windows: Windows, shuffle: bool | str, workers: int) -> None:
    """Every batch, by a fresh reader: nothing is known of the files, and none is open."""
    audio, order = WindowAudio(windows, rate_hz=STUDENT_HZ), windows.order(shuffle)
    batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    if workers:
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(audio.read, batches):
                pass
    else:
        for rows in batches:
            audio.read(rows)


def seconds_of(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", default="", help="a recording that is repeated; noise without one")
    parser.add_argument("--minutes", type=int, nargs="+", default=[5, 15, 30, 60])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    print(platform.platform(), f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    best: dict[tuple[str, str], float] = defaultdict(lambda: np.inf)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_audio(folder, args.audio, args.minutes, args.clips)
        sets = {f"{length} min": Windows(folder, [f"{length}.flac"]) for length in args.minutes}
        if len(args.minutes) > 1:
            sets["all of these"] = Windows(folder, [f"{length}.flac" for length in args.minutes])
        if args.clips:
            sets[f"{args.clips} clips"] = Windows(folder, [f"clip{n}.flac" for n in range(args.clips)])
        for _ in range(args.rounds):
            for name, windows in sets.items():
                ways = {"plain": lambda windows=windows: plain(windows)}
                for shuffle in (False, "recordings"):
                    for workers in sorted({0, args.workers}):
                        ways[f"{shuffle}, {workers} workers"] = lambda *what, w=windows, s=shuffle, n=workers: epoch(
                            w, s, n
                        )
                for way, work in ways.items():
                    best[name, way] = min(best[name, way], seconds_of(work) / windows.hours)
    ways = list(dict.fromkeys(way for _, way in best))
    print(f"{'seconds an hour of audio':<26}" + "".join(f"{way:>24}" for way in ways))
    for name in sets:
        print(f"{name:<26}" + "".join(f"{best[name, way]:>24.2f}" for way in ways))
    lengths = [f"{length} min" for length in args.minutes]
    linear = {way: max(best[n, way] for n in lengths) / min(best[n, way] for n in lengths) for way in ways}
    over = {way: {name: round(best[name, way] / best[name, "plain"], 3) for name in sets} for way in ways[1:]}
    print(json.dumps({"over plain": over, "linear": {way: round(value, 3) for way, value in linear.items()}}))


if __name__ == "__main__":
    main()
