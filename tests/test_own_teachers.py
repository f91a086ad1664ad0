"""A teacher of one's own: what it raises is told with its place, and the files around it shadow nothing of ours."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions, TeacherChoice
from pipeline.checking.regenerate import regenerate
from pipeline.labelling import worker
from pipeline.planning.probe_workers import probe_in_processes
from pipeline.processes import NoWorkers, ProcessLane, Workers
from pipeline.running import rounds
from pipeline.teachers.loading import load_teacher
from softlabels.audio.decode import DEFAULT_BUDGET
from softlabels.errors import EnvironmentTrouble, TeacherError

HEAD = "import os, sys\nfrom standin import StandIn\n\n\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, as the current one of a console script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    before = set(sys.modules)
    importlib.invalidate_caches()
    worker._warm_teacher.cache_clear()
    yield tmp_path
    worker._warm_teacher.cache_clear()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def teacher(folder: Path, body: str, name: str = "mine") -> str:
    (folder / f"{name}.py").write_text(HEAD + body)
    return f"{name}:make"


def run(corpus: Corpus, kind: str, **options: object) -> pipeline.RunSummary:
    return pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher=kind,
        jobs=1,
        labelling=LabelOptions(shard_windows=4),
        options=RunOptions(**{"backend": "sequential", **options}),
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("TOKEN = os.environ['NO_SUCH_TOKEN']", "importing mine raised KeyError: 'NO_SUCH_TOKEN' ({}, line 5: `TOKEN"),
        ("1 / 0", "importing mine raised ZeroDivisionError: division by zero ({}, line 5: `1 / 0`)"),
        ("sys.exit('no licence')", "importing mine raised SystemExit: no licence ({}, line 5: "),
        ("import no_such_package", "No module named 'no_such_package' ({}, line 5: `import no_such_package`)"),
        ("def make(:", "importing mine raised SyntaxError: "),
        ("def make():\n    return int('seven')", "make() raised ValueError: invalid literal"),
        ("def make():\n    return int('seven')", "({}, line 6: `return int('seven')`)"),
        ("def make():\n    sys.exit(0)", "make() raised SystemExit: 0 ({}, line 6: `sys.exit(0)`)"),
        ("class T(StandIn):\n    def __init__(self):\n        self.net.load()\nmake = T", "({}, line 7: `self.net.lo"),
        ("def make():\n    raise FileNotFoundError(2, 'No such file', 'w.pt')", "make() raised FileNotFoundError: "),
    ],
)
def test_what_a_factory_raises_is_told_with_its_place_in_the_users_file(here: Path, body: str, told: str) -> None:
    with pytest.raises(TeacherError) as caught:
        load_teacher(TeacherChoice(kind=teacher(here, body)))
    assert told.format(here / "mine.py") in str(caught.value)


def test_a_machine_in_trouble_is_no_fault_of_a_teacher(here: Path) -> None:
    with pytest.raises(EnvironmentTrouble, match=r"make\(\) raised OSError: .*Stale file handle"):
        load_teacher(TeacherChoice(kind=teacher(here, "def make():\n    raise OSError(116, 'Stale file handle', 'w')")))


@pytest.mark.parametrize("name", ["queue", "calendar", "numpy", "pipeline", "softlabels"])
def test_a_teacher_whose_module_is_hidden_by_another_is_refused_with_both_places(here: Path, name: str) -> None:
    teacher(here, "def make():\n    return StandIn()", name)
    before = sys.modules[name] if name in sys.modules else importlib.import_module(name)
    with pytest.raises(TeacherError, match=rf"'{here / name}\.py' is hidden by another module .*: rename yours"):
        load_teacher(TeacherChoice(kind=f"{name}:make"))
    assert sys.modules[name] is before


def test_the_users_folder_is_looked_in_last_and_once(here: Path) -> None:
    kind = teacher(here, "def make():\n    return StandIn()")
    for _ in range(2):
        load_teacher(TeacherChoice(kind=kind))
    assert (sys.path[-1], sys.path.count(str(here))) == (str(here), 1)


SHADOWS = ("pipeline", "softlabels", "numpy", "types", "queue", "random", "joblib", "signal", "json", "av", "secrets")


def test_workers_load_nothing_that_lies_beside_a_teacher(here: Path, corpus: Corpus) -> None:
    body = f"sys.path.insert(0, {str(here)!r})\n\n\ndef make():\n    return StandIn()"  # as many teachers do
    for name in SHADOWS:
        for folder in (here, corpus.folder):
            (folder / f"{name}.py").write_text("raise RuntimeError('another module was meant')")
    summary = run(corpus, teacher(here, body), backend="loky")
    assert (summary.labelled, summary.deferred, summary.quarantined) == (14, (), 0)


class Unloadable:
    def __reduce__(self) -> tuple[object, ...]:
        return int, ("seven",)


def test_a_worker_that_cannot_load_its_work_ends_the_run_with_its_own_words() -> None:
    lane = ProcessLane()
    with pytest.raises(NoWorkers, match=r"cannot load what it has to do: ValueError: invalid literal .* \(File "):
        lane.call(len, Unloadable(), timeout_s=60)


@pytest.mark.parametrize("how", ["crashed: its worker died of EXIT(1)", "crashed: its worker died of SIGSEGV(-11)"])
def test_workers_that_do_not_come_up_are_not_waited_for(corpus: Corpus, monkeypatch, how: str) -> None:
    class Dead(ProcessLane):
        def call(self, *_args: object, **_options: object) -> object:
            raise pipeline.processes.WorkerLost(how)

    monkeypatch.setattr(pipeline.processes.time, "sleep", lambda _: pytest.fail("waited"))
    workers = Workers(2)
    workers.lane = Dead()
    monkeypatch.setattr(workers, "each", lambda *_a, **_o: (_ for _ in ()).throw(pipeline.processes.PoolBroke("x")))
    with pytest.raises(NoWorkers, match="no worker process comes up: crashed"):
        probe_in_processes(corpus.folder, ["c1.wav", "c2.wav"], DEFAULT_BUDGET, workers=workers)


RAISES = (
    "class T(StandIn):\n    def score(self, windows):\n        {}\n        return super().score(windows)\nmake = T\n"
)
REAL = "if len(set(windows[0].tolist())) > 1 and abs(windows).max() > 0.26: "  # no control window is as loud


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise KeyError('TOKEN')", "scoring control windows raised KeyError: 'TOKEN' ({}, line 7: "),
        ("sys.exit(4)", "scoring control windows raised SystemExit: 4 ({}, line 7: `sys.exit(4)`)"),
        (
            REAL + "raise RuntimeError('no')",
            "no clip can be labelled, 4 were tried alone: crashed: the teacher raised Run",
        ),
        (REAL + "sys.exit(0)", "tried alone: crashed: the teacher raised SystemExit: 0 ({}, line 7: "),
    ],
)
def test_a_teacher_that_can_score_nothing_stops_the_run_after_three_shards(
    here: Path, corpus: Corpus, monkeypatch, line: str, told: str
) -> None:
    calls = []
    real = rounds.label_if_missing
    monkeypatch.setattr(rounds, "label_if_missing", lambda task: calls.append(task.shard) or real(task))
    with pytest.raises(TeacherError) as caught:
        run(corpus, teacher(here, RAISES.format(line)))
    assert told.format(here / "mine.py") in str(caught.value)
    assert calls == [0, 1, 2]
    assert not list((corpus.folder / "store" / "receipts").glob("*"))


def test_one_clip_that_ends_the_process_by_sys_exit_is_quarantined_alone(here: Path, corpus: Corpus) -> None:
    samples = np.full(2400, 0.25, np.float32)
    samples[800] = 0.875
    corpus.write_samples("c2.wav", samples, subtype="FLOAT")
    summary = run(corpus, teacher(here, RAISES.format("if 0.875 in windows[:, 0]: sys.exit(0)")))
    (entry,) = softlabels.open(corpus.folder / "store").census.quarantine
    assert (entry.clip_id, entry.reason, entry.detail) == ("c2", "crashed", "the teacher raised SystemExit: 0")
    assert (summary.labelled, summary.missing) == (14 - entry.windows, 0)


def test_what_a_teacher_raises_while_a_shard_is_made_again_is_told_with_its_place(here: Path, corpus: Corpus) -> None:
    kind = teacher(here, RAISES.format("if os.environ.get('SPOILED'): raise KeyError('TOKEN')"))
    run(corpus, kind)
    (corpus.folder / "store" / "run.json").unlink()
    store = softlabels.open(corpus.folder / "store")
    worker._warm_teacher.cache_clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPOILED", "1")
        (result,) = regenerate(store, [0], teacher=kind, root=corpus.folder, jobs=1)
    assert result.problem.startswith(
        "shard 0 cannot be made again: teacher 'mine:make': scoring raised KeyError: 'TOKEN'"
    )
    assert f"({here / 'mine.py'}, line 7: " in result.problem
