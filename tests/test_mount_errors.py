"""A machine in trouble is never a recording's fault, and a recording that kills its reader is nobody else's.

Every call of a real run is let fail by `benchmarks/mount_errors.py`; here are a few of each kind, drawn by a seed.
"""

import errno
import io
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import standin
from conftest import Corpus

import pipeline
import softlabels
from pipeline import RunEvents, RunOptions, processes
from pipeline.cli.commands import main
from pipeline.planning import prepare, probe_workers
from pipeline.planning import probe_files as probe_files_module
from pipeline.planning.probe import probe_file
from pipeline.planning.probe_files import probe_files
from pipeline.processes import Workers
from softlabels.audio.decode import probe_audio, read_audio
from softlabels.errors import AudioError, EnvironmentTrouble
from softlabels.os_errors import is_environment, is_store_trouble

NAMES = """EIO ESTALE ENOTCONN ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETUNREACH ENETDOWN EREMOTEIO ENXIO ENODEV ENOMEM
EMFILE ENFILE EAGAIN EINTR EBUSY EDEADLK ENOLCK EPROTO ECONNREFUSED ECONNRESET ECONNABORTED EKEYEXPIRED ENOKEY ENOSPC
EDQUOT EUCLEAN EBADMSG ENODATA EREMOTE ENOLINK EACCES EPERM"""
MACHINE = [getattr(errno, name) for name in NAMES.split()]
FORMATS = ("wav", "flac", "ogg", "mp3", "m4a")
DRAWS = [(draw, FORMATS[draw % 5], ("probing", "labelling")[draw // 5 % 2]) for draw in range(10)]


def write_audio(path: Path, *, title: bytes = b"", seconds: float = 2.0, rate_hz: int = 8000) -> Path:
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, round(seconds * rate_hz)).astype(np.float32)
    if path.suffix != ".m4a":
        soundfile.write(path, samples, rate_hz, format=path.suffix[1:].upper())
        return path
    av = pytest.importorskip("av", reason="needs the extra m4a")
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=rate_hz, layout="mono")
        file.metadata["title"] = "Title"
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    if title:
        path.write_bytes(path.read_bytes().replace(b"Title", title))
    return path


def fail(monkeypatch, call: str, name: str, number: int, *, nth: int = 1, once: bool = False) -> None:
    """Let the nth call of an `os` function fail on files of one name, once or from then on."""
    real, counted = getattr(os, call), [0]

    def failing(target, *arguments: object, **options: object):
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
        if Path(path).name == name:
            counted[0] += 1
            if counted[0] == nth if once else counted[0] >= nth:
                raise OSError(number, os.strerror(number), str(path))
        return real(target, *arguments, **options)

    monkeypatch.setattr(os, call, failing)


def run(corpus: Corpus, **events: Callable) -> pipeline.RunSummary:
    return pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher="standin:teacher",
        labelling=pipeline.LabelOptions(shard_windows=2),
        options=RunOptions(backend="sequential"),
        events=RunEvents(**events),
    )


def test_an_unknown_error_is_the_machines_and_content_has_to_prove_itself() -> None:
    assert [number for number in MACHINE if not is_environment(OSError(number, ""))] == []
    assert is_environment(OSError(4711, "Something new"))
    assert is_environment(io.UnsupportedOperation("File or stream is not seekable."))
    content = [errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ]
    assert not any(is_environment(OSError(number, "")) for number in content)
    assert not is_environment(OSError("h5py's own"))
    assert not is_store_trouble(OSError(errno.EROFS, ""))


@pytest.mark.parametrize(("draw", "container", "moment"), DRAWS)
def test_an_error_of_the_mount_puts_work_off_whatever_call_it_hits(
    corpus: Corpus, monkeypatch, draw: int, container: str, moment: str
) -> None:
    chance = random.Random(draw)
    name = write_audio(corpus.folder / f"mount.{container}").name
    corpus.write_manifest(f"clip_id,path,start_s,end_s\na,c0.wav,,\nb,{name},0.5,1.9\nc,c2.wav,,\n")
    call, most = chance.choice([("preadv", 5), ("preadv", 2), ("stat", 2), ("open", 1), ("fstat", 1)])
    number, nth, once = chance.choice(MACHINE), chance.randint(1, most), chance.random() < 0.5

    def arm(*_plan: object) -> None:
        fail(monkeypatch, call, name, number, nth=nth, once=once)

    if moment == "probing":
        arm()
    summary = run(corpus, **({"on_plan": arm} if moment == "labelling" else {}))
    monkeypatch.undo()
    assert softlabels.open(corpus.folder / "store").census.quarantine == ()
    assert all(os.strerror(number) in why for why in summary.deferred)
    assert len(summary.deferred) > 0 or summary.labelled == 20
    assert run(corpus).labelled == 20


@pytest.mark.parametrize("container", FORMATS)
def test_no_sample_is_made_of_bytes_that_were_not_read(tmp_path, monkeypatch, container: str) -> None:
    path = write_audio(tmp_path / f"a.{container}", seconds=8)
    for nth in (1, 2, 4):
        with monkeypatch.context() as patch:
            fail(patch, "preadv", path.name, errno.EIO, nth=nth, once=True)
            with pytest.raises(EnvironmentTrouble, match="Input/output error"):
                read_audio(path, rate_hz=8000)


@pytest.mark.parametrize("title", [b"Gr\xfcn!", b"\xff\xfe\xfd\xfc\xfb", b"\xc3\x28\xa0\xa1!"])
def test_a_title_in_another_character_set_keeps_nobody_from_being_labelled(corpus: Corpus, title: bytes) -> None:
    write_audio(corpus.folder / "c1.m4a", title=title)
    corpus.write_manifest("clip_id,path\nc0,c0.wav\nc1,c1.m4a\n")
    summary = run(corpus)
    assert (summary.quarantined, summary.deferred) == (0, ())
    assert summary.labelled > 20


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xfc", 0, 1, "no"), KeyError(1), TypeError("no rate")])
@pytest.mark.parametrize("step", ["__init__", "read"])
def test_whatever_a_decoder_raises_is_the_files_and_only_the_files(
    corpus: Corpus, monkeypatch, step: str, error: Exception
) -> None:
    real = getattr(soundfile.SoundFile, step)

    def raising(self, *arguments: object, **options: object):
        source = arguments[0] if step == "__init__" else self.name
        if Path(source.raw.path).name == "c1.wav":
            raise error
        return real(self, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, step, raising)
    assert run(corpus).labelled == 13
    (entry,) = softlabels.open(corpus.folder / "store").census.quarantine
    assert (entry.clip_id, entry.reason) == ("c1", "unreadable")
    assert f"libsndfile raised {type(error).__name__}" in entry.detail


def test_a_file_is_missing_only_below_a_root_that_is_there(tmp_path) -> None:
    write_audio(tmp_path / "a.wav")
    for path in ("b.wav", "no/folder/b.wav", "a.wav/b.wav"):
        assert probe_file(tmp_path, path).reason == "missing"
        assert "is not there" in probe_file(tmp_path / "unmounted", path).trouble
    assert probe_file(tmp_path, "x" * 300).reason == "unreadable"
    with pytest.raises(AudioError, match="missing"):
        probe_audio(tmp_path / "b.wav")


@pytest.mark.parametrize("moment", ["the root", "the files"])
def test_a_mount_that_hangs_keeps_no_run_for_ever(corpus: Corpus, monkeypatch, moment: str) -> None:
    run(corpus)
    released = threading.Event()
    real, name = os.stat, corpus.folder.name if moment == "the root" else "c3.wav"
    monkeypatch.setattr(prepare, "LOOK_S", 0.2)
    monkeypatch.setattr(probe_files_module, "STATES_S", 0.2)
    monkeypatch.setattr(
        os, "stat", lambda path, **how: (Path(str(path)).name == name and not released.wait(20)) or real(path, **how)
    )
    with pytest.raises(EnvironmentTrouble, match="no answer within 0.* s; a mount that hangs"):
        run(corpus)
    released.set()


# ---------------------------------------------------------------------------------------------- circuit breaker


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ESTALE, errno.EHOSTDOWN, errno.ENOENT])
def test_a_mount_that_dies_is_waited_for_and_then_ends_the_run_with_exit_3(
    corpus: Corpus, monkeypatch, capsys, number: int
) -> None:
    pauses, shards = [], []
    monkeypatch.setattr(processes, "PATIENCE_S", 5.0)
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=pauses.append, monotonic=lambda: float(sum(pauses))))
    summary = run(
        corpus,
        on_plan=lambda *_: fail(monkeypatch, "stat", corpus.folder.name, number),
        on_shard=shards.append,
    )
    monkeypatch.undo()
    assert [status.outcome for status in shards] == ["deferred"] * 3
    assert pauses == [1.0, 2.0]
    assert summary.resumable
    assert "3 shards in a row were put off: the audio root" in summary.stopped
    assert not any("teacher" in why for why in summary.deferred)
    assert run(corpus).labelled == 14


def test_a_mount_that_comes_back_is_gone_on_with(corpus: Corpus, monkeypatch) -> None:
    gone = corpus.folder.with_name("gone")
    audio = corpus.folder / "audio"
    audio.mkdir()
    for file in corpus.folder.glob("*.wav"):
        file.rename(audio / file.name)
    monkeypatch.setattr(
        processes, "time", SimpleNamespace(sleep=lambda _: gone.rename(audio), monotonic=time.monotonic)
    )
    arguments = {"teacher": "standin:teacher", "root": audio, "options": RunOptions(backend="sequential")}
    summary = pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        labelling=pipeline.LabelOptions(shard_windows=2),
        events=RunEvents(on_plan=lambda *_: audio.rename(gone)),
        **arguments,
    )
    assert (len(summary.deferred), summary.stopped) == (3, "")
    assert summary.labelled + summary.missing == 14
    assert summary.labelled >= 6
    assert pipeline.run(corpus.manifest, corpus.folder / "store", **arguments).labelled == 14


def test_bad_sectors_are_put_off_one_by_one_and_nobody_waits(corpus: Corpus, monkeypatch) -> None:
    def arm(*_plan: object) -> None:
        for name in ("c0.wav", "c1.wav", "c2.wav", "c3.wav"):
            fail(monkeypatch, "preadv", name, errno.EIO)

    monkeypatch.setattr("pipeline.running.rounds.wait_until", lambda _: pytest.fail("waited for a root that is there"))
    summary = run(corpus, on_plan=arm)
    assert (summary.stopped, summary.quarantined) == ("", 0)
    assert len(summary.deferred) >= 4
    assert summary.labelled >= 2


@pytest.mark.parametrize("number", [errno.EIO, errno.EHOSTUNREACH, errno.EUCLEAN])
def test_a_store_out_of_reach_exits_3_and_not_2(corpus: Corpus, monkeypatch, capsys, number: int) -> None:
    monkeypatch.chdir(corpus.folder)
    arguments = ["run", "--teacher", "standin:teacher", "--backend", "sequential"]
    with monkeypatch.context() as patch:
        fail(patch, "scandir", "receipts", number)
        assert main(arguments) == 3, capsys.readouterr()
    assert os.strerror(number) in capsys.readouterr().err
    assert main(arguments) == 0


# ------------------------------------------------------------------------------------- files that kill while probed


@pytest.mark.storms
def test_files_that_kill_or_hang_their_reader_are_named_and_all_others_probed(corpus: Corpus, monkeypatch) -> None:
    monkeypatch.setattr(probe_workers, "BATCH_S", 1.0)
    monkeypatch.setattr(processes, "TRIES", 1)  # so many processes are enough here
    corpus.write_audio("c1.wav", rate_hz=8001)
    corpus.write_audio("c4.wav", rate_hz=8002)
    workers = Workers(2, timeout_s=1.0)
    paths = [f"c{i}.wav" for i in range(6)]
    probes = probe_files(corpus.folder, paths, budget=standin.DeadlyBudget(), workers=workers)
    workers.close()
    found = {path: (probe.reason, probe.detail) for path, probe in probes.items() if probe.reason or probe.trouble}
    assert found == {
        "c1.wav": ("crashed", "its worker died of SIGSEGV(-11)"),
        "c4.wav": ("hung", "no answer within 1 s"),
    }
    assert [probes[f"c{i}.wav"].frames for i in (0, 2, 3, 5)] == [2400, 2000, 3200, 1600]


@pytest.mark.storms
def test_a_file_that_aborts_its_reader_is_quarantined_and_the_run_goes_on(corpus: Corpus) -> None:
    corpus.write_audio("c2.wav", rate_hz=8003)
    summary = pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher="standin:teacher",
        jobs=1,
        options=RunOptions(budget=standin.DeadlyBudget()),
    )
    (entry,) = softlabels.open(corpus.folder / "store").census.quarantine
    assert (entry.clip_id, entry.reason, entry.is_transient) == ("c2", "crashed", True)
    assert "SIGABRT" in entry.detail
    assert summary.labelled == 11
