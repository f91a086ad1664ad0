"""Audio for training: kept once, beside decoding once, and beside what other loaders do; and what int16 does to it.

    python tests/benchmarks/bench_audio.py FOLDER [--parts hour clips snr] [--minutes 5 15 60] [--clips 1000]
                                                  [--rounds 3] [--recording FILE] [--songs FOLDER --seeds 5]

FOLDER keeps the recordings, which are made of noise and calls, or of FILE's sound again and again. Everything is read
from a warm page cache; rounds take turns, and the median counts.

hour: one FLAC at 48 kHz for a student at 24 kHz. "once" reads it in blocks with soundfile and resamples it with soxr,
and keeps nothing. The first epoch of `make_dataset(audio="cache")` makes the array and reads it, a later one reads it.
"each from its start" is what a window cost before: some windows are streamed from the file's start, and the epoch is
reckoned from their mean.
clips: 3 s each at 48 kHz, the same log-mel in NumPy for all, batches of 64, shuffled, 2 cores. Each contender runs in
a process of its own, and its first epoch begins where it makes its loader. "client" does as the first client's
generator does: two processes, soundfile, scipy's resample_poly, one example after the other through `from_generator`.
torchaudio and `datasets` need torch, and decode with torchcodec, which needs FFmpeg's libraries on LD_LIBRARY_PATH; who
cannot run is left out, and said. "kept" ones keep their features: ours with keep_features, `datasets` with map.
snr: signal to noise of kept int16, beside whole numbers of 16 bits as a WAV has them, and scaled by a file's peak.
student (with --songs, the work folder of `proof_songs.py`): the small student of the songs, taught by the default
recipe with all annotations, gets kept int16 instead of the samples in training and test, seed by seed.
The last line of stdout is one JSON object.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import soxr

FILE_HZ, RATE_HZ, WINDOW_S, BATCH = 48_000, 24_000, 3, 64
FRAME, HOP, BANDS = 512, 281, 64


# --- what everybody computes


def log_mel(audio: np.ndarray) -> np.ndarray:
    """(n, samples) float32 -> (n, 64, frames) float32."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME, axis=1)[:, ::HOP]
    spectrum = np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))  # (n, frames, bins) complex64
    power = spectrum.real**2 + spectrum.imag**2
    return np.log(power @ MEL + np.float32(1e-6)).transpose(0, 2, 1)


def _mel() -> np.ndarray:
    """(bins, bands) float32 triangles, equally wide in mel."""
    ends = 2595 * np.log10(1 + np.array([150, RATE_HZ / 2]) / 700)
    corners = 700 * (10 ** (np.linspace(*ends, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


MEL = _mel()


def log_mel_of_one(audio: np.ndarray) -> np.ndarray:
    samples = WINDOW_S * RATE_HZ
    return log_mel(np.pad(audio[:samples], (0, max(0, samples - len(audio))))[None])[0]


def log_mel_by_row(audio: np.ndarray) -> np.ndarray:
    """The same, row by row as all others compute it: the arrays of 64 rows at once fall out of the CPU's cache."""
    return np.stack([log_mel(row[None])[0] for row in audio])


# --- recordings and labels


def sound(seconds: float, seed: int, recording: str | None) -> np.ndarray:
    """(samples,) float32 at 48 kHz: noise with calls, or a stretch of a recording."""
    generator, count = np.random.default_rng(seed), round(seconds * FILE_HZ)
    if recording:
        samples = soundfile.read(recording, dtype="float32", always_2d=True)[0][:, 0]
        return np.resize(np.roll(samples, -int(generator.integers(len(samples)))), count)
    noise = generator.standard_normal(min(count, 60 * FILE_HZ)).astype(np.float32) * 0.004
    t = np.arange(len(noise)) / FILE_HZ
    calls = 0.1 * np.sin(2 * np.pi * (3000 + 500 * np.sin(2 * np.pi * 3 * t)) * t) * (np.sin(2 * np.pi * 0.4 * t) > 0.6)
    return np.resize(noise + calls.astype(np.float32), count)


class Teacher:
    """Answers at once: only the audio matters here."""

    name, rate_hz, window_samples, activation, outputs = "none", FILE_HZ, WINDOW_S * FILE_HZ, "sigmoid", "probabilities"
    batch_size, notice, digest = 32, "", "0" * 64

    def __init__(self) -> None:
        from softlabels import ClassList

        self.classes = ClassList(("Aus aus_Alpha", "Bus bus_Beta"))

    def score(self, windows: np.ndarray) -> np.ndarray:
        return np.full((len(windows), 2), 0.25, np.float32)


def teacher() -> Teacher:
    return Teacher()


def corpus(folder: Path, files: int, seconds: float, recording: str | None) -> Path:
    """FLAC files of 16 bits, a manifest and a store, made once."""
    if not (folder / "store").exists():
        import pipeline

        folder.mkdir(parents=True, exist_ok=True)
        lines = ["clip_id,path,label"]
        for i in range(files):
            soundfile.write(folder / f"c{i}.flac", sound(seconds, i, recording), FILE_HZ, subtype="PCM_16")
            lines.append(f"c{i},c{i}.flac,{['Aus aus_Alpha', 'Bus bus_Beta'][i % 2]}")
        (folder / "data_manifest.csv").write_text("\n".join(lines) + "\n")
        options = pipeline.RunOptions(backend="sequential")
        what = folder / "data_manifest.csv", folder / "store"
        pipeline.run(*what, teacher="bench_audio:teacher", options=options)
    return folder


def joined(folder: Path):  # -> softlabels.JoinedLabels
    import softlabels

    return softlabels.open(folder / "store").join(folder / "data_manifest.csv")


def forget(folder: Path) -> None:
    """Let everything be kept anew."""
    for path in (folder / "store" / "joins").glob("[af][ue]*-*-*.npy"):
        path.unlink()


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# --- one recording


def once(path: Path) -> None:
    """Decode and resample a file, block by block."""
    resampler = soxr.ResampleStream(FILE_HZ, RATE_HZ, 1, dtype="float32", quality="HQ")
    with soundfile.SoundFile(path) as file:
        while len(block := file.read(65536, dtype="float32")):
            resampler.resample_chunk(block)
    resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def bench_hour(folder: Path, minutes: int, rounds: int, recording: str | None) -> dict[str, float]:
    import softlabels
    from softlabels.audio.decode import read_audio

    place = corpus(folder / f"minutes-{minutes}", 1, 60 * minutes, recording)
    labels, path = joined(place), place / "c0.flac"

    def epoch(dataset: object) -> None:
        for _ in dataset:
            pass

    def made(audio: str, **how: object) -> object:
        return softlabels.make_dataset(labels, 32, rate_hz=RATE_HZ, shuffle=True, audio=audio, **how)

    epoch(made("stream").take(0))  # tf.data is awake
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        taken.setdefault("once", []).append(seconds_of(partial(once, path)))
        for audio in ("cache", "cache-float32"):
            forget(place)
            kept: list = []

            def first(audio: str = audio, kept: list = kept) -> None:
                kept.append(made(audio))
                epoch(kept[0])

            taken.setdefault(f"{audio}, first", []).append(seconds_of(first))
            taken.setdefault(f"{audio}, later", []).append(seconds_of(partial(epoch, kept[0])))
    windows = len(labels)
    some = np.linspace(0, windows - 2, 6).astype(int) * WINDOW_S * RATE_HZ
    read = [
        seconds_of(partial(read_audio, path, rate_hz=RATE_HZ, start=s, stop=s + 3 * RATE_HZ)) for s in some.tolist()
    ]
    found = {name: float(np.median(values)) for name, values in taken.items()}
    found["each from its start"] = float(np.mean(read)) * windows
    table(f"{minutes} minutes, {windows} windows", found, "once")
    forget(place)
    return found


# --- clips


def ours(folder: Path, epochs: int, **how: object) -> Iterator[float]:
    import tensorflow as tf

    import softlabels

    tf.data.Dataset.range(2).batch(2)  # awake, as others' libraries are
    labels = joined(folder)
    forget(folder)
    began = time.perf_counter()
    dataset = softlabels.make_dataset(labels, BATCH, log_mel_by_row, RATE_HZ, shuffle=True, workers=2, **how)
    for _ in range(epochs):
        yield from passed(dataset, len(labels), began)
        began = time.perf_counter()


def passed(batches: Iterable, expected: int, began: float) -> Iterator[float]:
    """The seconds until all of an epoch has come."""
    count = sum(len(x) for x, *_ in batches)
    if count != expected:
        raise RuntimeError(f"expected {expected} windows, got {count}")
    yield time.perf_counter() - began


def _clients_file(path: str) -> np.ndarray:
    from math import gcd

    from scipy.signal import resample_poly

    with soundfile.SoundFile(path) as file:
        samples, hz = file.read(dtype="float32", always_2d=True).mean(axis=1), file.samplerate
    shared = gcd(hz, RATE_HZ)
    return log_mel_of_one(resample_poly(samples, RATE_HZ // shared, hz // shared).astype(np.float32))


def client(folder: Path, epochs: int) -> Iterator[float]:
    """As the first client does: a pool of processes, results as they come, through `from_generator`."""
    import multiprocessing

    import tensorflow as tf

    paths = sorted(map(str, folder.glob("*.flac")))
    began = time.perf_counter()
    with multiprocessing.get_context("forkserver").Pool(2) as pool:

        def examples() -> Iterator[np.ndarray]:
            random.shuffle(paths)
            yield from pool.imap_unordered(_clients_file, paths, chunksize=2)

        signature = tf.TensorSpec(log_mel_of_one(np.zeros(9, np.float32)).shape, tf.float32)
        dataset = tf.data.Dataset.from_generator(examples, output_signature=signature).batch(BATCH).prefetch(2)
        for _ in range(epochs):
            yield from passed(((x,) for x in dataset), len(paths), began)
            began = time.perf_counter()


def librosa(folder: Path, epochs: int) -> Iterator[float]:
    import librosa as peer

    paths = sorted(map(str, folder.glob("*.flac")))
    peer.load(paths[0], sr=RATE_HZ)  # what it compiles and imports late
    for _ in range(epochs):
        began = time.perf_counter()
        random.shuffle(paths)
        loaded = (log_mel_of_one(peer.load(path, sr=RATE_HZ)[0]) for path in paths)
        yield from passed(batched(loaded), len(paths), began)


def batched(examples: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray]]:
    some = []
    for example in examples:
        some.append(example)
        if len(some) == BATCH:
            yield (np.stack(some),)
            some = []
    if some:
        yield (np.stack(some),)


def _audio_dataset(paths: list[str]):  # -> datasets.Dataset
    import datasets

    return datasets.Dataset.from_dict({"audio": paths}).cast_column("audio", datasets.Audio(sampling_rate=RATE_HZ))


def _of_decoders(batch: dict) -> dict:
    return {"x": [log_mel_of_one(np.asarray(each["array"], np.float32)) for each in batch["audio"]]}


def huggingface(folder: Path, epochs: int) -> Iterator[float]:
    paths = sorted(map(str, folder.glob("*.flac")))
    _of_decoders(_audio_dataset(paths[:1])[:1])
    began = time.perf_counter()
    dataset = _audio_dataset(paths).with_transform(_of_decoders)
    for _ in range(epochs):
        batches = (np.stack(batch["x"]) for batch in dataset.shuffle().iter(BATCH))
        yield from passed(((x,) for x in batches), len(paths), began)
        began = time.perf_counter()


def huggingface_kept(folder: Path, epochs: int) -> Iterator[float]:
    paths = sorted(map(str, folder.glob("*.flac")))
    _of_decoders(_audio_dataset(paths[:1])[:1])
    began = time.perf_counter()
    dataset = _audio_dataset(paths).map(
        _of_decoders, batched=True, batch_size=BATCH, num_proc=2, remove_columns=["audio"], load_from_cache_file=False
    )
    for _ in range(epochs):
        batches = (batch["x"] for batch in dataset.with_format("numpy").shuffle().iter(BATCH))
        yield from passed(((x,) for x in batches), len(paths), began)
        began = time.perf_counter()


class _Files:
    """For torch's DataLoader."""

    def __init__(self, paths: list[str]) -> None:
        self.paths, self.resample = paths, None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[np.ndarray]:
        import torch
        import torchaudio as peer

        if self.resample is None:
            torch.set_num_threads(1)
            self.resample = peer.transforms.Resample(FILE_HZ, RATE_HZ)
        samples, _ = peer.load(self.paths[i])
        return (log_mel_of_one(self.resample(samples.mean(0)).numpy()),)


def torchaudio(folder: Path, epochs: int) -> Iterator[float]:
    from torch.utils.data import DataLoader

    paths = sorted(map(str, folder.glob("*.flac")))
    _Files(paths)[0]
    began = time.perf_counter()
    loader = DataLoader(_Files(paths), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    for _ in range(epochs):
        yield from passed(loader, len(paths), began)
        began = time.perf_counter()


CONTENDERS: dict[str, Callable[[Path, int], Iterator[float]]] = {
    "ours, cache": partial(ours, audio="cache"),
    "ours, cache-float32": partial(ours, audio="cache-float32"),
    "ours, stream": partial(ours, audio="stream"),
    "ours, cache, kept": partial(ours, audio="cache", keep_features="log-mel 1"),
    "ours, stream, kept": partial(ours, audio="stream", keep_features="log-mel 1"),
    "client": client,
    "librosa": librosa,
    "datasets": huggingface,
    "datasets, kept": huggingface_kept,
    "torchaudio": torchaudio,
}
EPOCHS = 3


def bench_clips(folder: Path, clips: int, rounds: int, recording: str | None) -> dict[str, dict[str, float]]:
    place = corpus(folder / f"clips-{clips}", clips, WINDOW_S, recording)
    taken: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            command = [sys.executable, __file__, str(place), "--contender", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}: left out: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            else:
                taken[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(
                    f"{name}: {', '.join(f'{clips / one:,.0f}' for one in taken[name][-1])} windows a second",
                    flush=True,
                )
    found = {}
    for name, runs in taken.items():
        if runs:
            first, later = np.median([run[0] for run in runs]), np.median([min(run[1:]) for run in runs])
            found[name] = {"first": clips / float(first), "later": clips / float(later)}
    print(f"\n{clips} clips of 3 s, windows a second    first epoch    later epochs")
    for name, speed in found.items():
        print(f"{name:35}{speed['first']:15,.0f}{speed['later']:16,.0f}")
    return found


# --- what int16 does


def signal_to_noise(signal: np.ndarray, had: np.ndarray) -> float:
    """In dB; the click of one case comes before what is measured."""
    noise = signal.astype(np.float64) - had
    return 10 * float(np.log10(np.mean(signal.astype(np.float64) ** 2) / np.mean(noise**2)))


def bench_snr(folder: Path, recording: str | None) -> dict[str, dict[str, float]]:
    from softlabels.sound.samples import BLOCK, from_int16, to_int16

    samples = soxr.resample(sound(60, 7, recording), FILE_HZ, RATE_HZ, quality="HQ")
    samples = samples[: len(samples) // BLOCK * BLOCK] / np.abs(samples).max()
    click = samples * np.float32(1e-3)
    click[RATE_HZ : RATE_HZ + 20] = 1
    cases = {"full scale": samples, "-40 dB": samples * 1e-2, "-60 dB": samples * 1e-3, "-60 dB, one click": click}
    cases |= {"three times too loud": samples * 3}
    found = {}
    for name, case in cases.items():
        case = case.astype(np.float32)
        numbers, exponents = to_int16(case.reshape(-1, BLOCK))
        kept = np.empty_like(case)
        from_int16(numbers.reshape(-1), exponents, 0, kept)
        peak = np.abs(case).max()
        ways = {"kept": kept, "as a WAV": np.clip(np.rint(case * 32768), -32768, 32767) / 32768}
        ways["by the file's peak"] = np.rint(case / peak * 32767) / 32767 * peak
        found[name] = {way: signal_to_noise(case[2 * RATE_HZ :], had[2 * RATE_HZ :]) for way, had in ways.items()}
        print(f"{name:25}" + "".join(f"{way:>20}: {value:5.1f} dB" for way, value in found[name].items()))
    return found


# --- what a student makes of it


def bench_student(folder: Path, songs: Path, seeds: int) -> dict[str, object]:
    from arms import recommended
    from proof_songs import REPORT
    from students import LogMel, answers_each

    import softlabels

    labels = [corpus.make(songs).join(cache_dir=folder / "kept") for corpus in REPORT]
    pictures: dict[str, list[Path]] = {}
    for audio in ("stream", "cache"):
        for name, each in zip(("train", "test"), labels, strict=True):
            path = folder / audio / name / "x.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            rate_hz = LogMel().rate_hz - 10  # resampled: what has 16 bits at its own rate comes back to the bit
            batches = softlabels.make_dataset(each, 128, LogMel(), rate_hz, audio=audio)
            np.save(path, np.concatenate([x.numpy() for x, _ in batches]))
            pictures.setdefault(audio, []).append(path)
    hard = labels[1].hard()
    sung = hard.max(axis=1) == 1
    lessons = [recommended(labels[0], seed) for seed in range(seeds)]
    right = {}
    for audio, paths in pictures.items():
        logits = answers_each([(lesson, *paths) for lesson in lessons], jobs=2)  # TensorFlow is awake here
        right[audio] = np.stack([one[sung].argmax(axis=1) == hard[sung].argmax(axis=1) for one in logits])
    apart = right["cache"].mean(axis=1) - right["stream"].mean(axis=1)  # (seeds,)
    error = float(apart.std(ddof=1) / np.sqrt(seeds))
    test = [np.load(paths[1]) for paths in pictures.values()]
    found = {name: float(one.mean()) for name, one in right.items()}
    found |= {"int16 - float32": float(apart.mean()), "standard error": error}
    found["pictures apart at most"] = float(np.abs(test[0] - test[1]).max())
    found["pictures' deviation"] = float(test[0].std())
    for name, value in found.items():
        print(f"{name:28}{value:12.6f}")
    return found


def table(title: str, seconds: dict[str, float], of: str) -> None:
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"{name:28}{value:10.2f} s{value / seconds[of]:10.2f} x {of}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", default=["hour", "clips", "snr"])
    parser.add_argument("--minutes", nargs="+", type=int, default=[5, 15, 60])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recording")
    parser.add_argument("--songs", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contender")
    options = parser.parse_args()
    sys.modules["bench_audio"] = sys.modules[__name__]
    if options.contender:
        print(json.dumps(list(CONTENDERS[options.contender](options.folder, EPOCHS))))
        return
    print(
        platform.platform(),
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    )
    found: dict[str, object] = {}
    if "hour" in options.parts:
        for minutes in options.minutes:
            found[f"{minutes} min"] = bench_hour(options.folder, minutes, options.rounds, options.recording)
    if "clips" in options.parts:
        found["clips"] = bench_clips(options.folder, options.clips, options.rounds, options.recording)
    if "snr" in options.parts:
        found["snr"] = bench_snr(options.folder, options.recording)
    if options.songs:
        found["student"] = bench_student(options.folder, options.songs, options.seeds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
