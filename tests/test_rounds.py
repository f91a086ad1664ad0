"""Workers that die, hang and raise: the clip that is to blame is quarantined, and nobody else notices."""

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, shard_bytes
from joblib.externals.loky import get_reusable_executor

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions
from pipeline.checking.regenerate import shard_task
from pipeline.checking.sources import find_sources
from pipeline.cli.commands import main
from pipeline.labelling.worker import label_and_commit
from pipeline.processes import Workers
from softlabels.audio.faults import audio_os_error
from softlabels.errors import EnvironmentTrouble, StorageFullError
from softlabels.storage.local import LocalStorage


def poison(corpus: Corpus, name: str, first_sample: float) -> None:
    samples = np.full(2400, 0.25, np.float32)
    samples[800] = first_sample
    corpus.write_samples(name, samples, subtype="FLOAT")


def run(corpus: Corpus, teacher: str, store: str = "store", **options: object) -> pipeline.RunSummary:
    return pipeline.run(
        corpus.manifest,
        corpus.folder / store,
        teacher=f"standin:{teacher}",
        jobs=options.pop("jobs", 2),
        labelling=LabelOptions(shard_windows=4),
        options=RunOptions(**{"timeout_s": 20.0, **options}),
    )


def quarantine(corpus: Corpus, store: str = "store") -> dict[str, tuple[str, str]]:
    entries = softlabels.open(corpus.folder / store).census.quarantine
    return {entry.clip_id: (entry.reason, entry.detail) for entry in entries}


@pytest.mark.storms
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_clip_that_kills_its_worker_every_time_is_quarantined_alone(corpus: Corpus, jobs: int) -> None:
    poison(corpus, "c2.wav", 0.75)
    summary = run(corpus, "poisoned", jobs=jobs)
    assert (summary.labelled, summary.quarantined, summary.missing) == (11, 3, 0)
    ((clip_id, (reason, detail)),) = quarantine(corpus).items()
    assert (clip_id, reason) == ("c2", "crashed")
    assert "SIGSEGV" in detail
    os.remove(corpus.folder / "c2.wav")
    run(corpus, "poisoned", "without", backend="sequential")
    keys = [("c0", 0), ("c1", 0), ("c3", 3), ("c4", 0), ("c5", 1)]
    with_poison, without = (softlabels.open(corpus.folder / s).take(keys) for s in ("store", "without"))
    np.testing.assert_array_equal(with_poison, without)


@pytest.mark.storms
def test_a_clip_that_hangs_its_worker_is_quarantined_alone(corpus: Corpus) -> None:
    poison(corpus, "c4.wav", 0.625)
    summary = run(corpus, "poisoned", timeout_s=2.0)
    assert (summary.quarantined, summary.missing) == (3, 0)
    assert quarantine(corpus) == {"c4": ("hung", "no answer within 2 s")}


@pytest.mark.parametrize("backend", ["loky", "sequential"])
def test_a_clip_on_which_the_teacher_raises_is_quarantined_alone(corpus: Corpus, backend: str) -> None:
    poison(corpus, "c1.wav", 0.875)
    summary = run(corpus, "poisoned", backend=backend)
    assert (summary.quarantined, summary.missing) == (3, 0)
    assert quarantine(corpus) == {"c1": ("crashed", "the teacher raised RuntimeError: what an odd window")}


@pytest.mark.storms
def test_several_bad_clips_in_one_shard_are_all_found(corpus: Corpus) -> None:
    for name, first_sample in {"c0.wav": 0.75, "c1.wav": 0.875, "c5.wav": 0.75}.items():
        poison(corpus, name, first_sample)
    summary = pipeline.run(
        corpus.manifest, corpus.folder / "store", teacher="standin:poisoned", jobs=2, options=RunOptions(timeout_s=20.0)
    )
    assert set(quarantine(corpus)) == {"c0", "c1", "c5"}
    assert (summary.quarantined, summary.labelled) == (9, 8)


def test_transient_faults_are_tried_again_and_mended(corpus: Corpus, monkeypatch) -> None:
    poison(corpus, "c1.wav", 0.875)
    run(corpus, "poisoned", backend="sequential")
    receipts = sorted((corpus.folder / "store" / "receipts").iterdir())
    again = run(corpus, "poisoned", backend="sequential")
    assert (again.shards_done, again.quarantined) == (0, 3)
    assert sorted((corpus.folder / "store" / "receipts").iterdir()) == receipts, "an unchanged fault writes no receipt"
    import standin

    monkeypatch.setattr(standin.Poisoned, "score", standin.StandIn.score)
    mended = run(corpus, "poisoned", backend="sequential")
    assert (mended.new_windows, mended.quarantined, mended.different) == (3, 0, ())
    assert softlabels.open(corpus.folder / "store").take([("c1", 1)]).shape == (1, 3)
    assert run(corpus, "poisoned", backend="sequential").shards_done == 0


def test_permanent_faults_are_tried_again_only_when_asked(corpus: Corpus, monkeypatch) -> None:
    samples = np.full(800, np.nan, np.float32)
    corpus.write_samples("c1.wav", samples, subtype="FLOAT")
    run(corpus, "teacher", backend="sequential")
    labelled = []
    monkeypatch.setattr(pipeline.running.rounds, "label_if_missing", lambda task: pytest.fail("labelled again"))
    run(corpus, "teacher", backend="sequential")
    monkeypatch.undo()
    real = pipeline.running.rounds.label_if_missing
    monkeypatch.setattr(
        pipeline.running.rounds, "label_if_missing", lambda task: labelled.append(task.shard) or real(task)
    )
    run(corpus, "teacher", backend="sequential", retry_quarantined=True)
    assert labelled == [0]


def test_an_operators_kill_is_not_poison(corpus: Corpus, tmp_path, monkeypatch) -> None:
    poison(corpus, "c2.wav", 0.75)
    monkeypatch.setenv("STANDIN_ONCE", str(tmp_path / "killed"))
    summary = run(corpus, "dies_once")
    assert (tmp_path / "killed").exists()
    assert (summary.quarantined, summary.missing, summary.deferred) == (0, 0, ())


@pytest.mark.storms
def test_a_machine_that_kills_control_windows_too_blames_no_clip(corpus: Corpus, monkeypatch) -> None:
    get_reusable_executor().shutdown(wait=True)  # workers of earlier tests do not know of the next line
    monkeypatch.setenv("STANDIN_DIES", "1")
    summary = run(corpus, "dies_always")
    assert (summary.labelled, summary.quarantined, summary.missing) == (0, 0, 14)
    assert "a control window failed too" in summary.deferred[0]
    monkeypatch.delenv("STANDIN_DIES")
    get_reusable_executor().shutdown(wait=True)
    assert run(corpus, "dies_always").labelled == 14


def test_a_lost_mount_puts_the_shard_off_and_blames_no_clip(corpus: Corpus, monkeypatch) -> None:
    lines = ["clip_id,path"]
    for i in range(20):
        corpus.write_audio(f"many/{i:02d}.wav", 0.1, seed=i)
        lines.append(f"{i:02d},many/{i:02d}.wav")
    corpus.write_manifest("\n".join(lines))
    options = RunOptions(backend="sequential")
    clips, root = pipeline.planning.prepare.read_clips(corpus.manifest, None)
    prepared = pipeline.planning.prepare.prepare(
        clips, root, corpus.folder / "store", pipeline.TeacherChoice(kind="standin:teacher"), LabelOptions(), jobs=1
    )
    pipeline.planning.prepare.write_plan(corpus.folder / "store", prepared)
    (corpus.folder / "many").rename(corpus.folder / "unmounted")
    shift = pipeline.running.run._Shift(
        softlabels.open(corpus.folder / "store"), prepared, options, pipeline.RunEvents()
    )
    shift.work(Workers(0))
    assert [status.outcome for status in shift.statuses] == ["deferred"]
    assert "20 files below" in shift.statuses[0].message
    (corpus.folder / "unmounted").rename(corpus.folder / "many")
    summary = pipeline.run(corpus.manifest, corpus.folder / "store", teacher="standin:teacher", options=options)
    assert summary.labelled == 20


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOTCONN, errno.ETIMEDOUT])
def test_an_io_error_puts_work_off_and_blames_no_clip(corpus: Corpus, monkeypatch, number: int) -> None:
    def broken(path: Path, *, known: bool) -> str:
        raise audio_os_error(path, OSError(number, os.strerror(number)))

    monkeypatch.setattr("pipeline.labelling.label.audio_sha256", broken)
    summary = run(corpus, "teacher", backend="sequential")
    assert (summary.labelled, summary.quarantined, summary.missing) == (0, 0, 14)
    assert os.strerror(number) in summary.deferred[0]
    monkeypatch.undo()
    assert run(corpus, "teacher", backend="sequential").labelled == 14


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_an_io_error_of_the_store_puts_the_shard_off(corpus: Corpus, monkeypatch, number: int) -> None:
    real = LocalStorage.put

    def broken(self, key: str, data: bytes) -> None:
        if key.startswith("shards/00001"):
            raise OSError(number, os.strerror(number))
        real(self, key, data)

    monkeypatch.setattr(LocalStorage, "put", broken)
    summary = run(corpus, "teacher", backend="sequential")
    assert (summary.labelled, summary.quarantined, summary.missing) == (11, 0, 3)
    assert f"{os.strerror(number)} while committing" in summary.deferred[0]
    monkeypatch.undo()
    assert run(corpus, "teacher", backend="sequential").labelled == 14


def test_a_file_that_cannot_even_be_probed_now_waits_for_a_later_run(corpus: Corpus, monkeypatch) -> None:
    from pipeline.planning import probe

    def stale(path: Path, **options):
        if path.name == "c1.wav":
            raise EnvironmentTrouble("'c1.wav': Stale file handle")
        return real(path, **options)

    real = probe.probe_audio
    monkeypatch.setattr(probe, "probe_audio", stale)
    summary = run(corpus, "teacher", backend="sequential")
    assert (summary.clips, summary.labelled, summary.deferred) == (5, 13, ("'c1.wav': Stale file handle",))
    monkeypatch.undo()
    assert run(corpus, "teacher", backend="sequential").labelled == 14


def test_a_full_disk_stops_the_run_with_exit_3_and_it_goes_on_later(corpus: Corpus, monkeypatch, capsys) -> None:
    monkeypatch.chdir(corpus.folder)
    real, commits = LocalStorage.put, []

    def fills_up(self, key: str, data: bytes) -> None:
        if key.startswith("shards/"):
            commits.append(key)
            if len(commits) > 2:
                raise StorageFullError("store 'soft_labels': No space left on device while writing a shard; make room")
        real(self, key, data)

    monkeypatch.setattr(LocalStorage, "put", fills_up)
    arguments = ["run", "--teacher", "standin:teacher", "--backend", "sequential", "--shard-windows", "4"]
    assert main(arguments) == 3
    printed = capsys.readouterr()
    assert "stopped early: store 'soft_labels': No space left" in printed.err
    assert "the same command again" in printed.err
    monkeypatch.setattr(LocalStorage, "put", real)
    assert main(arguments) == 0
    assert softlabels.open("soft_labels").missing_shards() == []


def test_a_strict_run_refuses_another_numerics_class(corpus: Corpus, monkeypatch) -> None:
    run(corpus, "teacher", backend="sequential")
    (corpus.folder / "store" / "receipts" / "00003.g0.json").unlink()
    pipeline.labelling.worker._warm_teacher.cache_clear()
    monkeypatch.setattr(pipeline.labelling.worker, "numerics_class", lambda teacher, embedded: "f" * 64)
    with pytest.raises(softlabels.TeacherError, match="--strict: the store was made by numerics class"):
        run(corpus, "teacher", backend="sequential", strict=True)
    assert run(corpus, "teacher", backend="sequential").numerics_classes == 2
    pipeline.labelling.worker._warm_teacher.cache_clear()


@pytest.mark.parametrize(
    ("factor", "numerics", "outcome"),
    [(1, "", "equal"), (1 + 2.0**-9, "a", "equivalent"), (1 + 2.0**-9, "", "different"), (1.1, "a", "different")],
)
def test_a_second_labelling_is_equal_equivalent_or_a_violation_and_never_replaces_the_first(
    corpus: Corpus, monkeypatch, factor: float, numerics: str, outcome: str
) -> None:
    run(corpus, "teacher", backend="sequential")
    store = softlabels.open(corpus.folder / "store")
    before = (store.storage.root / "receipts" / "00000.g0.json").read_bytes()
    sources = find_sources(store, root=None, teacher=None, model=None)
    task = shard_task(store, 0, store.planned([0])[0], sources=sources)
    real = pipeline.teachers.scoring.wide_probabilities
    monkeypatch.setattr(
        "pipeline.labelling.label.wide_probabilities",
        lambda scores, activation: (p := real(scores, activation)) * np.where(p < 0.4, np.float32(factor), 1),
    )
    if numerics:
        monkeypatch.setattr("pipeline.labelling.worker.numerics_class", lambda teacher, embedded: numerics * 64)
    pipeline.labelling.worker._warm_teacher.cache_clear()
    assert label_and_commit(task).outcome == outcome
    pipeline.labelling.worker._warm_teacher.cache_clear()
    assert (store.storage.root / "receipts" / "00000.g0.json").read_bytes() == before


@pytest.mark.storms
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 3), (signal.SIGUSR1, 3)])
def test_a_signal_stops_the_run_cleanly_and_the_next_goes_on(tmp_path, number: int, code: int) -> None:
    subprocess.run(
        [sys.executable, REPOSITORY / "tests/corpus/make_corpus.py", "--clips", "240", "--seed", "5", "-o", tmp_path],
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "pipeline", "run", tmp_path / "data_manifest.csv", "-o", tmp_path / "store"]
    command += ["--shard-windows", "4"]
    # A shell that starts the tests in the background has them ignore SIGINT, and so would their children.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
    store = LocalStorage(tmp_path / "store")  # lists what is finished: a write that the signal met is swept later
    while len(store.list("receipts")) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    began = time.monotonic()
    _, printed = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == code
    assert "the same command goes on from here" in printed
    assert "Traceback" not in printed
    assert not any(".tmp" in key for key in (*store.list("shards"), *store.list("receipts"))), "unfinished is unseen"
    assert len(store.list("receipts")) < 60
    if number != signal.SIGINT:
        return  # what follows is the same for all of them
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=True)
    assert "labelled          240" in again.stdout
    assert len(store.list("receipts")) == 60


@pytest.mark.storms
def test_workers_die_with_their_parent(tmp_path) -> None:
    subprocess.run(
        [sys.executable, REPOSITORY / "tests/corpus/make_corpus.py", "--clips", "100", "--seed", "6", "-o", tmp_path],
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "pipeline", "run", tmp_path / "data_manifest.csv", "-o", tmp_path / "store"]
    process = subprocess.Popen([*command, "--shard-windows", "8"], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    receipts = tmp_path / "store" / "receipts"
    while not (receipts.is_dir() and len(list(receipts.iterdir())) >= 2):
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(_is_alive(int(pid)) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in workers if _is_alive(int(pid))] == []
    before = shard_bytes(tmp_path / "store")
    time.sleep(1)
    assert shard_bytes(tmp_path / "store").keys() == before.keys(), "nobody writes on"


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return state != "Z" and "resource_tracker" not in command
