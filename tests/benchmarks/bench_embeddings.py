"""Embeddings: what BirdNET's cost and how near they are to LiteRT's own, and how fast joined ones are read.

    python tests/benchmarks/bench_embeddings.py RECORDING [--windows 40] [--rounds 3]
    python tests/benchmarks/bench_embeddings.py --rows 1000000 [--width 1024] [--folder /tmp]

The first takes a recording of 48 kHz: probabilities bit-equal to those of a teacher that is not asked for embeddings;
embeddings against the tensor that LiteRT computes, of the file as it is and of the folded one; bytes and seconds a
window more, both teachers side by side, the stores labelled by turns. The second makes a store of so many windows, and
times building, opening and reading the array of a join, beside `np.copyto` of as many bytes and a bare `np.take`.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from synthetic_store import write_store

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions, TeacherChoice
from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.folding.derived import folded_model
from pipeline.teachers.folding.embedding import last_input
from pipeline.teachers.interpreter import answer, open_interpreter
from pipeline.teachers.loading import load_teacher
from softlabels.corpus.manifest import Clip
from softlabels.records.shard import round_embeddings
from softlabels.store.embeddings import as_half


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def parity(windows: np.ndarray) -> None:
    """Prints how near the embeddings of a few windows are to the tensors that LiteRT's own kernels compute."""
    content = find_birdnet()[0].read_bytes()
    asked, plain = load_teacher(TeacherChoice(embedding=True)), load_teacher(TeacherChoice())
    tensor = last_input(content)
    own = {"the file": content, "folded": folded_model("BirdNET", content)[0]}
    own = {name: open_interpreter(name, model, portable=True, keep_all=True) for name, model in own.items()}
    equal, worst, angle = True, dict.fromkeys(own, 0.0), 1.0
    for window in windows:
        scores, embeddings = asked.score_with_embedding(window[None])
        equal &= np.array_equal(scores.view(np.uint32), plain.score(window[None]).view(np.uint32))
        kept = as_half(round_embeddings(embeddings))[0]
        for name, interpreter in own.items():
            answer(interpreter, window[None])
            theirs = interpreter.get_tensor(tensor)[0].astype(np.float64)
            away = np.linalg.norm(embeddings[0] - theirs) / np.linalg.norm(theirs)
            worst[name], angle = max(worst[name], away), min(angle, cosine(kept, theirs))
    print(f"{len(windows)} windows: scores bit-equal to those without: {equal}")
    for name, away in worst.items():
        print(f"  |e - LiteRT's own, {name}| / |e| at most {away:.1e}")
    print(f"  cosine of what is kept and LiteRT's own at least {angle:.7f}")


def cost(recording: Path, windows: int, rounds: int) -> None:
    """Prints bytes and time a window with embeddings and without."""
    plain, asked = load_teacher(TeacherChoice()), load_teacher(TeacherChoice(embedding=True))
    samples = first_windows(recording, windows)
    seconds = {"without": [], "with": []}
    for _ in range(rounds):
        for window in samples:  # by turns, so that a busy machine slows both
            for name, call in (("without", plain.score), ("with", asked.score_with_embedding)):
                began = time.process_time()
                call(window[None])
                seconds[name].append(time.process_time() - began)
    median = {name: float(np.median(each)) for name, each in seconds.items()}
    print(
        f"teacher alone, median of {len(seconds['with'])}: {median['without'] * 1e3:.2f} ms a window, with embedding "
        f"{median['with'] * 1e3:.2f} ms: {median['with'] / median['without'] - 1:+.2%}"
    )
    clip = Clip(clip_id="a", path=recording.name)
    sizes, took = {}, {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for name, choice in (("without", TeacherChoice()), ("with", TeacherChoice(embedding=True))):
                began = time.process_time()
                store = Path(folder) / f"{name}{number}"
                how = {"labelling": LabelOptions(overlap_s=2.5), "options": RunOptions(backend="sequential")}
                pipeline.run([clip], store, root=recording.parent, teacher=choice, **how)
                took[name].append(time.process_time() - began)
                opened = softlabels.open(store)
                sizes[name] = sum(receipt.size for receipt in opened.receipts.values()) / len(opened)
        rows = len(opened)
    least = {name: min(each) for name, each in took.items()}
    print(
        f"store of {rows} windows: {sizes['without']:,.0f} B a window, with embedding {sizes['with']:,.0f}: "
        f"{sizes['with'] - sizes['without']:,.0f} more"
    )
    print(
        f"the job, CPU seconds, least of {rounds}: {least['without']:.2f}, with embedding {least['with']:.2f}: "
        f"{least['with'] / least['without'] - 1:+.2%}"
    )


def first_windows(recording: Path, windows: int) -> np.ndarray:
    """(windows, 144000) float32."""
    samples, rate_hz = soundfile.read(recording, 144_000 * windows, dtype="float32", always_2d=True)
    if rate_hz != 48_000:
        raise SystemExit(f"expected a recording of 48 kHz, got {rate_hz}")
    return samples.mean(axis=1)[: len(samples) // 144_000 * 144_000].reshape(-1, 144_000)


def reading(rows: int, width: int, folder: Path) -> None:
    """Prints seconds to build and open, and the speed of gathers against copies of as many bytes."""
    root = write_store(folder, clips=rows // 10, windows=10, classes=10, embedding=width)
    labels = softlabels.open(root).join(folder / "data_manifest.csv", canary=False)
    began = time.perf_counter()
    labels.embedding([0])
    print(f"{len(labels):,} rows x {width}: built in {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    again = softlabels.open(root).join(folder / "data_manifest.csv", canary=False)
    joined = time.perf_counter()
    again.embedding([0])
    print(f"  join found again in {joined - began:.2f} s; opened and first row in {time.perf_counter() - joined:.4f} s")
    kept = again._embeddings()
    kept.check()  # as after an epoch: no page is unseen
    source = np.array(kept[: min(rows, 100_000)])  # another stretch to copy, and to take from without any checks
    for batch in (64, 256, 1024):
        for name, shuffled in (("shuffled", True), ("in order", False)):
            turns = Turns(again, source, batch, shuffled)
            figures = dict.fromkeys(("embedding", "take", "memcpy"), 0.0)
            for _ in range(20):  # by turns; the best of each counts
                figures = {call: max(best, turns.rate(getattr(turns, call))) for call, best in figures.items()}
            ours, take = (figures[call] / figures["memcpy"] for call in ("embedding", "take"))
            what = f"batches of {batch:>4}, {name}: {figures['embedding']:5.1f} GB/s"
            print(f"  {what}, {ours:.2f} x memcpy; a bare numpy.take {take:.2f} x", flush=True)


class Turns:
    """Bytes a second of fetching batches; every turn goes on where the last one stopped, at cold rows."""

    def __init__(self, labels: softlabels.JoinedLabels, source: np.ndarray, batch: int, shuffled: bool) -> None:
        self.labels, self.source, self.batch = labels, source, batch
        self.order = np.random.default_rng(0).permutation(len(source)) if shuffled else np.arange(len(source))
        self.out, self.position = np.empty((batch, source.shape[1]), np.float16), 0

    def rate(self, fetch: Callable[[np.ndarray, int], object], calls: int = 40) -> float:
        """GB/s."""
        starts = []
        for _ in range(calls):
            self.position = (self.position + self.batch) % (len(self.source) - self.batch)
            starts.append(self.position)
        rows = [self.order[start : start + self.batch] for start in starts]
        began = time.perf_counter()
        for some, start in zip(rows, starts, strict=True):
            fetch(some, start)
        return calls * self.out.nbytes / (time.perf_counter() - began) / 1e9

    def embedding(self, rows: np.ndarray, _: int) -> None:
        self.labels.embedding(rows, out=self.out)

    def take(self, rows: np.ndarray, _: int) -> None:
        np.take(self.source, rows, axis=0, out=self.out, mode="clip")

    def memcpy(self, _: np.ndarray, start: int) -> None:
        np.copyto(self.out, self.source[start : start + self.batch])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, nargs="?")
    for name, default in (("windows", 40), ("rounds", 3), ("rows", 0), ("width", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, numpy {np.__version__}")
    if arguments.recording:
        parity(first_windows(arguments.recording, arguments.windows))
        cost(arguments.recording.resolve(), arguments.windows, arguments.rounds)
    if arguments.rows:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            reading(arguments.rows, arguments.width, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
