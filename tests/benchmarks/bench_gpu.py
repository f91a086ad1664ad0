"""A Keras teacher on a GPU beside the CPU: windows/s by batch size, the share of decoding, and whether labels agree.

    KERAS_BACKEND=jax python tests/benchmarks/bench_gpu.py [--minutes 60] [--cpu-minutes 2] [--seconds 4]
    KERAS_BACKEND=torch ...

Wants neither TensorFlow nor LiteRT. Makes a model of five million random weights (log-mel of 3 s at 32 kHz, then a
MobileNet) and FLAC files of a minute each, in a folder that is deleted. One process, as with --jobs 1. Both devices
score the same windows; the GPU labels all minutes, the CPU the first of them, and the rows of both stores are held
against each other by the rule of D0. Takes about three minutes; the last line is one JSON object. Exits 1 if labels of
the two devices differ by more than D0.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import soundfile
from keras import layers

import pipeline
import softlabels
from pipeline.models.model_files import copy_file
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.decode import read_audio
from softlabels.records.shard import ShardRows, decode_shard
from softlabels.store.equivalence import compare_rows
from softlabels.windows import WindowSpec, cut_windows

RATE, SECONDS, CLASSES = 32_000, 3, 1000
BATCHES = {"cpu": (1, 8, 32), "gpu": (1, 8, 32, 128, 512)}
WINDOW = WindowSpec(rate_hz=RATE, window_samples=RATE * SECONDS, hop_samples=RATE * SECONDS)
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def make_model(path: Path) -> int:
    """Save a model from waveforms to logits; -> how many weights it has."""
    keras.utils.set_random_seed(0)
    wave = layers.Input((RATE * SECONDS,))
    x = layers.MelSpectrogram(
        fft_length=1024, sequence_stride=320, sampling_rate=RATE, num_mel_bins=128, power_to_db=False
    )(wave)
    x = keras.ops.log(x + 1e-5) / 6
    x = layers.Reshape((*x.shape[1:], 1))(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    for width, stride in BLOCKS:
        x = layers.DepthwiseConv2D(3, strides=stride, padding="same", depthwise_initializer="he_normal")(x)
        x = layers.BatchNormalization(momentum=0)(x)
        x = layers.Activation("relu")(x)
        x = layers.Conv2D(width, 1, activation="relu", kernel_initializer="he_normal")(x)
    model = keras.Model(wave, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))
    noise = np.random.Generator(np.random.PCG64(2)).normal(0, 0.1, (16, RATE * SECONDS)).astype(np.float32)
    model(noise, training=True)  # what normalises each layer, or all logits would be near 0
    model.save(path)
    return int(model.count_params())


def make_corpus(folder: Path, minutes: int) -> None:
    """Files of a minute: calls that rise and fall in noise, no two alike."""
    rng = np.random.Generator(np.random.PCG64(0))
    time_s = np.arange(60 * RATE) / RATE
    lines = ["clip_id,path"]
    for minute in range(minutes):
        frequency = 3000 + 2000 * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time_s)
        call = np.sin(2 * np.pi * np.cumsum(frequency) / RATE) * (np.sin(2 * np.pi * rng.uniform(0.5, 4) * time_s) > 0)
        sound = 0.2 * call + rng.normal(0, 0.02, len(time_s))
        soundfile.write(folder / f"m{minute:03}.flac", sound.astype(np.float32), RATE, subtype="PCM_16")
        lines.append(f"m{minute:03},m{minute:03}.flac")
    (folder / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def first_minutes(folder: Path, minutes: int) -> Path:
    lines = (folder / "all.csv").read_text(encoding="utf-8").splitlines()
    path = folder / f"first{minutes}.csv"
    path.write_text("\n".join(lines[: minutes + 1]) + "\n", encoding="utf-8")
    return path


def devices() -> list[str]:
    """cpu, and gpu where Keras's backend has one."""
    if keras.backend.backend() == "torch":
        import torch

        return ["cpu", "gpu"] if torch.cuda.is_available() else ["cpu"]
    if keras.backend.backend() == "jax":
        import jax

        return ["cpu", "gpu"] if jax.default_backend() in ("gpu", "cuda", "rocm") else ["cpu"]
    import tensorflow as tf

    return ["cpu", "gpu"] if tf.config.list_physical_devices("GPU") else ["cpu"]


def choice(folder: Path, digest: str, device: str, batch: int) -> TeacherChoice:
    return TeacherChoice(
        kind="keras",
        model=str(folder / "model.keras"),
        labels=str(folder / "classes.txt"),
        rate_hz=RATE,
        activation="sigmoid",
        outputs="logits",
        model_sha256=digest,
        batch_size=batch,
        device=device,
    )


def rate(score, windows: np.ndarray, seconds: float) -> float:
    """Windows a second, the best of as many passes as fit into so many seconds, three at least."""
    best, passes, end = np.inf, 0, time.perf_counter() + seconds
    while passes < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        score(windows)
        best, passes = min(best, time.perf_counter() - begin), passes + 1
    return len(windows) / best


def label(
    folder: Path, manifest: Path, how: TeacherChoice, name: str = "best"
) -> tuple[float, softlabels.SoftLabelStore]:
    """Seconds that it takes to label in this process, the teacher being loaded; and the store."""
    store = folder / f"{name}-{how.device}"
    options = pipeline.RunOptions(backend="sequential")
    begin = time.perf_counter()
    pipeline.run(manifest, store, teacher=how, labelling=pipeline.LabelOptions(shard_windows=2048), options=options)
    return time.perf_counter() - begin, softlabels.open(store)


def decoding(folder: Path, manifest: Path) -> float:
    """Seconds to decode and cut what a manifest names, and nothing else."""
    begin = time.perf_counter()
    for line in manifest.read_text(encoding="utf-8").splitlines()[1:]:
        samples = read_audio(folder / line.split(",")[1], rate_hz=RATE)
        deque(cut_windows([samples], WINDOW, WINDOW.count(len(samples))), maxlen=0)
    return time.perf_counter() - begin


def rows_of(store: softlabels.SoftLabelStore) -> ShardRows:
    """The rows of a store of one shard, as they are stored."""
    (path,) = Path(str(store.storage), "shards").glob("*.parquet")
    return decode_shard(path.read_bytes(), store.spec, len(store.classes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--cpu-minutes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="of scoring, for each batch size")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return measure(Path(name), args)


def measure(folder: Path, args: argparse.Namespace) -> int:
    weights = make_model(folder / "model.keras")
    digest = copy_file(folder / "model.keras", folder / "copy")
    (folder / "classes.txt").write_text("\n".join(f"Genus g{i:04}_Name {i:04}" for i in range(CLASSES)) + "\n", "utf-8")
    make_corpus(folder, args.minutes)
    backend = keras.backend.backend()
    print(f"{platform.processor() or platform.machine()}, Keras {keras.__version__} on {backend}, {weights:,} weights")
    result: dict[str, object] = {"backend": backend, "weights": weights, "rates": {}}
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 0.1, (512, RATE * SECONDS)).astype(np.float32)
    logits, stores, least = {}, {}, first_minutes(folder, args.cpu_minutes)
    for device in devices():
        print(f"{'device':8}{'batch':>8}{'windows/s':>12}")
        rates = {}
        for batch in BATCHES[device]:
            teacher = load_teacher(choice(folder, digest, device, batch))
            rates[batch] = rate(teacher.score, noise[:batch], args.seconds)
            print(f"{device:8}{batch:8}{rates[batch]:12.1f}   {teacher.runs_on}", flush=True)
            if batch == 32:
                logits[device] = teacher.score(noise[:32]).copy()
        result["rates"][device] = rates
        best = max(rates, key=rates.get)
        minutes = folder / "all.csv" if device == "gpu" else least
        seconds = label(folder, minutes, choice(folder, digest, device, best))[0]
        alone = decoding(folder, minutes)
        windows = 20 * (args.minutes if device == "gpu" else args.cpu_minutes)
        result[f"labelling_{device}"] = {"batch": best, "windows_s": windows / seconds, "decoding": alone / seconds}
        print(
            f"{device}: labels {windows} windows at {windows / seconds:.1f} windows/s in batches of {best}, start "
            f"included; decoding alone takes {alone / seconds:.1%} of that time"
        )
        stores[device] = label(folder, least, choice(folder, digest, device, 32), "same")[1]
    good = True
    if len(stores) == 2:
        found = compare_rows(rows_of(stores["cpu"]), rows_of(stores["gpu"]))
        apart = float(np.abs(logits["cpu"] - logits["gpu"]).max())
        result |= {"most_logits_apart": apart, "rows": str(found)}
        good = found in ("identical", "equivalent")
        print(f"cpu and gpu: logits at most {apart:.2e} apart on noise; {args.cpu_minutes} minutes of labels: {found}")
    result["versions"] = {name: importlib.metadata.version(name) for name in ("keras", "numpy", backend)}
    print(json.dumps(result))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
