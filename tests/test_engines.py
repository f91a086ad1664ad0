"""Real engines on this machine's loopback: the same labels, and the same survival of crashes, as with processes.

`pytest -m engines` runs those that start an engine. Each run is a process with a time limit: a hang is a failure.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, Corpus, shard_bytes
from joblib._parallel_backends import ThreadingBackend

import pipeline
import softlabels
from pipeline import RunOptions
from pipeline.engines import engine as engine_module
from pipeline.engines.streaming import Streaming
from softlabels.storage.protocol import TEMPORARY

PACKAGES = {"dask": "distributed", "ray": "ray", "spark": "joblibspark"}
NAMES = ["loky", *PACKAGES]
HASTY = (  # the command line, by which an engine that went away is missed sooner
    "import sys, pipeline.cli, pipeline.engines.engine as e, pipeline.engines.streaming as s; "
    "e.CONNECT_S = s.CONNECT_S = e.WORKERS_S = 3; e.REOPEN_S = 1; "
    "sys.exit(pipeline.cli.commands.main(sys.argv[1:]))"
)


@pytest.fixture
def clips(tmp_path: Path) -> Corpus:
    """200 clips of one window each."""
    made = Corpus(tmp_path / "corpus")
    for i in range(200):
        made.write_audio(f"c{i:03d}.wav", 0.1, seed=i, subtype="FLOAT")
    made.write_manifest("\n".join(["clip_id,path", *(f"c{i:03d},c{i:03d}.wav" for i in range(200))]))
    return made


def poison(clips: Corpus, first_sample: float) -> None:
    """What `standin:poisoned` dies of, or hangs on, every time, and `standin:dies_once` once."""
    samples = np.full(800, 0.25, np.float32)
    samples[0] = first_sample
    clips.write_samples("c050.wav", samples, subtype="FLOAT")


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY)])
    return {**os.environ, "PYTHONPATH": path, **more}


def command(clips: Corpus, store: str, teacher: str, *flags: object, hasty: bool = False) -> list[str]:
    start = ["-c", HASTY] if hasty else ["-m", "pipeline"]
    where = ["run", clips.manifest, "-o", clips.folder / store, "--shard-windows", 4]
    return [*map(str, [sys.executable, *start, *where, "--teacher", f"standin:{teacher}", *flags])]


def label(clips: Corpus, store: str, teacher: str, *flags: object, hasty: bool = False, **more: str) -> tuple[int, str]:
    """(exit code, what was printed), within a minute."""
    done = subprocess.run(
        command(clips, store, teacher, *flags, hasty=hasty),
        cwd=clips.folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout


@contextlib.contextmanager
def started(*arguments: object, **more: str) -> Iterator[subprocess.Popen]:
    """A process with a group of its own, gone with all its children at the end."""
    process = subprocess.Popen(
        [*map(str, arguments)],
        env=environment(**more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_group(process)
        process.stderr.close()


def kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


@contextlib.contextmanager
def dask_scheduler() -> Iterator[tuple[str, subprocess.Popen]]:
    """(address, process)"""
    skip_without("dask")
    arguments = ["--host", "127.0.0.1", "--port", 0, "--no-dashboard"]
    with started(sys.executable, "-m", "distributed.cli.dask_scheduler", *arguments) as process:
        printed = iter(process.stderr.readline, "")
        yield next(found[1] for line in printed if (found := re.search(r"Scheduler at: +(tcp://\S+)", line))), process


def dask_workers(address: str, workers: int, *, threads: int = 1, **more: str) -> contextlib.AbstractContextManager:
    program = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard"]
    return started(*program, "--nworkers", workers, "--nthreads", threads, **more)


def skip_without(name: str) -> None:
    if importlib.util.find_spec(PACKAGES.get(name, "joblib")) is None:
        pytest.skip(f"the extra is not installed: pip install softlabels[{name}]")


@contextlib.contextmanager
def engine(name: str, **more: str) -> Iterator[list[str]]:
    """The flags that label with two workers of an engine."""
    skip_without(name)
    if name == "dask":
        with dask_scheduler() as (address, _), dask_workers(address, 2, **more):
            yield ["--backend", "dask", "--address", address]
    else:
        yield ["--backend", name, "--jobs", "2"]


def expected_bytes(clips: Corpus, teacher: str, **more: str) -> dict[str, bytes]:
    """The shards as one process makes them."""
    code, printed = label(clips, "expected", teacher, "--backend", "sequential", **more)
    assert code == 0, printed
    return committed(clips.folder / "expected")


def committed(store: Path) -> dict[str, bytes]:
    """name -> bytes of every shard file; a killed worker may leave an unfinished one."""
    return {name: data for name, data in shard_bytes(store).items() if not name.startswith(TEMPORARY)}


def wait_for_receipts(store: Path, number: int) -> None:
    deadline = time.monotonic() + 150
    while not (store / "receipts").is_dir() or len(os.listdir(store / "receipts")) < number:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.engines
@pytest.mark.parametrize("name", NAMES)
def test_every_engine_gives_the_same_bytes_although_a_worker_is_killed_once(clips: Corpus, tmp_path, name: str) -> None:
    poison(clips, 0.75)
    once = tmp_path / "killed"
    with engine(name, STANDIN_ONCE=str(once)) as flags:
        code, printed = label(clips, "store", "dies_once", *flags, STANDIN_ONCE=str(once))
    assert (code, once.exists()) == (0, True), printed
    assert "labelled          200\nnew_windows       200\n" in printed
    assert committed(clips.folder / "store") == expected_bytes(clips, "dies_once", STANDIN_ONCE=str(once))


@pytest.mark.engines
@pytest.mark.parametrize("name", NAMES)
def test_a_clip_that_kills_its_worker_every_time_is_quarantined_alone(clips: Corpus, name: str) -> None:
    poison(clips, 0.75)
    with engine(name) as flags:
        code, printed = label(clips, "store", "poisoned", *flags)
    assert code == 1, printed
    assert "labelled          199" in printed
    ((_, entry),) = enumerate(softlabels.open(clips.folder / "store").census.quarantine)
    assert (entry.clip_id, entry.reason, entry.windows) == ("c050", "crashed", 1)


@pytest.mark.engines
def test_a_clip_that_hangs_its_worker_is_quarantined_alone(clips: Corpus) -> None:
    poison(clips, 0.625)
    with engine("dask") as flags:
        code, printed = label(clips, "store", "poisoned", *flags, "--timeout", 4)
    assert code == 1, printed
    ((_, entry),) = enumerate(softlabels.open(clips.folder / "store").census.quarantine)
    assert (entry.clip_id, entry.reason) == ("c050", "hung")


@pytest.mark.engines
@pytest.mark.parametrize("gone", ["scheduler", "workers"])
def test_an_engine_that_goes_away_leaves_the_rest_to_a_later_run_on_one_worker(clips: Corpus, gone: str) -> None:
    store = clips.folder / "store"
    with dask_scheduler() as (address, scheduler), dask_workers(address, 2) as workers:
        flags = ["--backend", "dask", "--address", address]
        with started(*command(clips, "store", "slow", *flags, hasty=True)) as run:
            wait_for_receipts(store, 5)
            kill_group(scheduler if gone == "scheduler" else workers)
            _, printed = run.communicate(timeout=60)
    assert run.returncode == 3, printed
    assert "stopped early: the engine is gone" in printed
    assert "next: the same command again" in printed
    assert 5 <= len(committed(store)) < 15, "nothing is done on this machine instead"
    with dask_scheduler() as (address, _), dask_workers(address, 1):
        code, printed = label(clips, "store", "slow", "--backend", "dask", "--address", address)
    assert code == 0, printed
    assert committed(store) == expected_bytes(clips, "slow")


@pytest.mark.engines
def test_two_runs_on_one_store_and_one_is_killed(clips: Corpus, tmp_path) -> None:
    scored = tmp_path / "scored"
    with (
        engine("dask", STANDIN_SCORED=str(scored)) as flags,
        started(*command(clips, "store", "slow", *flags), STANDIN_SCORED=str(scored)) as killed,
        started(*command(clips, "store", "slow", "--jobs", 2), STANDIN_SCORED=str(scored)) as other,
    ):
        wait_for_receipts(clips.folder / "store", 10)
        kill_group(killed)
        _, printed = other.communicate(timeout=60)
    assert other.returncode == 0, printed
    times = Counter(scored.read_text().split())
    windows = [soundfile.read(path, dtype="float32")[0].tobytes() for path in clips.folder.glob("*.wav")]
    computed = Counter(times[hashlib.sha256(window).hexdigest()] for window in windows)
    assert set(computed) <= {1, 2}
    assert computed.total() == 200
    assert committed(clips.folder / "store") == expected_bytes(clips, "slow")


@pytest.mark.engines
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_schedulers_signal_stops_a_run_on_an_engine_resumably(clips: Corpus, name: str) -> None:
    with engine(name) as flags, started(*command(clips, "store", "slow", *flags)) as run:
        wait_for_receipts(clips.folder / "store", 3)
        run.terminate()
        _, printed = run.communicate(timeout=30)
    assert (run.returncode, "stopped by SIGTERM; the same command goes on from here" in printed) == (3, True), printed


@pytest.mark.engines
def test_dask_workers_of_several_threads_are_refused_before_any_audio_is_read(clips: Corpus) -> None:
    with dask_scheduler() as (address, _), dask_workers(address, 1, threads=2):
        code, printed = label(clips, "store", "teacher", "--backend", "dask", "--address", address)
    assert code == 3
    assert "expected workers of one thread" in printed
    assert not (clips.folder / "store").exists()


@pytest.mark.engines
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_scheduler_that_does_not_answer_is_an_error_before_any_audio_is_read(clips: Corpus, address: str) -> None:
    skip_without("dask")
    code, printed = label(clips, "store", "teacher", "--backend", "dask", "--address", address, hasty=True)
    assert code == 3
    assert f"--backend dask at {address}: cannot use it" in printed
    assert not (clips.folder / "store").exists()


def run(corpus: Corpus, **options: object) -> pipeline.RunSummary:
    return pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher="standin:teacher",
        labelling=pipeline.LabelOptions(shard_windows=4),
        options=RunOptions(timeout_s=2.0, **options),
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"address": "tcp://here:1"}, "--address tcp://here:1: --backend loky takes none"),
        ({"backend": "sequential", "address": "auto"}, "--address auto: --backend sequential takes none"),
        ({"backend": "dask"}, "--backend dask: expected --address tcp://host:port"),
        ({"backend": "ray"}, r"--backend ray needs more packages: `pip install softlabels\[ray\]`"),
    ],
)
def test_a_backend_that_cannot_work_is_an_error_before_any_audio_is_read(corpus, monkeypatch, options, match) -> None:
    monkeypatch.setattr("pipeline.engines.engine.importlib.util.find_spec", lambda package: None)
    with pytest.raises(ValueError, match=match):
        run(corpus, **options)
    assert not (corpus.folder / "store").exists()


class Threads:
    """An engine that runs tasks in this very process, as joblib does where an engine has one worker only."""

    def __init__(self, address: str | None, jobs: int) -> None:
        self.opened = 0

    def open(self) -> None:
        self.opened += 1

    def count(self) -> int:
        return 2

    def backend(self) -> ThreadingBackend:
        return type("StreamingThreads", (Streaming, ThreadingBackend), {})()

    def close(self) -> None:
        pass


class Breaks(Threads):
    """An engine that raises as soon as it is used."""

    def backend(self) -> ThreadingBackend:
        raise ConnectionError("no route")


class Silent(Threads):
    """An engine that takes no task and says nothing."""

    def backend(self) -> ThreadingBackend:
        time.sleep(60)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Threads, "the engine runs tasks in this very process"),
        (Breaks, "the engine is gone: ConnectionError: no route; what it has not done is left to a later run"),
        (Silent, "the engine is gone: nothing came back within 2 s"),
    ],
)
def test_an_engine_that_is_no_good_stops_the_run_resumably(corpus: Corpus, monkeypatch, kind: type, why: str) -> None:
    monkeypatch.setitem(engine_module.ENGINES, "dask", ("joblib", kind))
    monkeypatch.setattr(engine_module, "REOPEN_S", 0.1)
    summary = run(corpus, backend="dask", address="here")
    assert (summary.labelled, summary.missing, summary.resumable) == (0, 14, True)
    assert why in summary.stopped
