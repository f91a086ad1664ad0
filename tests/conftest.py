"""Fixtures: a tiny corpus for the stand-in teacher, and the real corpus labelled by the real BirdNET."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

import pipeline
import softlabels
from pipeline.teachers.teacher import TeacherChoice

REPOSITORY = Path(__file__).parent.parent


@dataclass
class Corpus:
    """A folder with audio and a manifest in the making."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "data_manifest.csv"

    def write_audio(self, name: str, seconds: float = 0.3, *, rate_hz: int = 8000, seed: int = 0, **options) -> Path:
        samples = np.random.default_rng(seed).uniform(-0.4, 0.4, round(seconds * rate_hz)).astype(np.float32)
        return self.write_samples(name, samples, rate_hz=rate_hz, **options)

    def write_samples(self, name: str, samples: np.ndarray, *, rate_hz: int = 8000, **options) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate_hz, **options)
        return path

    def write_manifest(self, text: str) -> Path:
        self.manifest.write_text(text, encoding="utf-8")
        return self.manifest


def least_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Processor seconds of the fastest of some rounds: compare two of them, since a busy machine slows both."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


@pytest.fixture(scope="session", autouse=True)
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of the tests' own: the user's keeps no model or join of theirs, and lends them none."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Six clips: c0 to c5 with 1 to 4 windows of 0.1 s, the first two annotated."""
    return make_corpus(tmp_path)


def make_corpus(folder: Path) -> Corpus:
    made = Corpus(folder / "corpus")
    lines = ["clip_id,path,label,split"]
    for i, seconds in enumerate([0.3, 0.1, 0.25, 0.4, 0.05, 0.2]):
        made.write_audio(f"c{i}.wav", seconds, seed=i)
        label = ["Aus aus_Alpha", "Bus bus_Beta;Cus cus_Gamma", "noise", "", "", ""][i]
        lines.append(f"c{i},c{i}.wav,{label},{'train' if i < 4 else 'test'}")
    made.write_manifest("\n".join(lines) + "\n")
    return made


EMBEDDED = TeacherChoice(kind="standin:embedded", embedding=True)  # the same scores, and five numbers of each window


def label(
    corpus: Corpus, *, teacher: str | TeacherChoice = "standin:teacher", **labelling: object
) -> softlabels.SoftLabelStore:
    """The corpus labelled by the stand-in, in this process, four windows a shard unless told otherwise."""
    pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher=teacher,
        labelling=pipeline.LabelOptions(**{"shard_windows": 4, **labelling}),
        options=pipeline.RunOptions(backend="sequential"),
    )
    return softlabels.open(corpus.folder / "store")


@pytest.fixture
def store(corpus: Corpus) -> softlabels.SoftLabelStore:
    """The six clips of `corpus`, 14 windows in four shards."""
    return label(corpus)


def run_cli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`softlabels ...` as a user types it, in a process of its own."""
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


def shard_bytes(store: Path) -> dict[str, bytes]:
    """name -> bytes of every shard file of a store."""
    return {path.name: path.read_bytes() for path in sorted((store / "shards").iterdir())}


@pytest.fixture(scope="session")
def birdnet_store(tmp_path_factory: pytest.TempPathFactory) -> softlabels.SoftLabelStore:
    """The repository's corpus by the real BirdNET, through the command line, in five shards, with embeddings."""
    store = tmp_path_factory.mktemp("birdnet") / "soft_labels"
    done = run_cli("run", "-o", store, "--shard-windows", 16, "--jobs", 2, "--embedding", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return softlabels.open(store)
