"""Windows and macOS: no name that they lack, as far as Linux can tell; and locks, whose holders may be killed."""

import ast
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import as_windows
import pytest
from conftest import REPOSITORY, Corpus

from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice
from softlabels import platforms
from softlabels.errors import TeacherError

FILES = [path for package in ("softlabels", "pipeline") for path in sorted((REPOSITORY / package).rglob("*.py"))]
ON_WINDOWS = """
import as_windows
as_windows.pretend()
import json, sys
from pathlib import Path
import keras, numpy as np
import pipeline, softlabels
from pipeline.cli.commands import main
from pipeline.teachers import opened_in_child
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice
from softlabels import platforms
from softlabels.errors import TeacherError
from softlabels.storage.file_cache import FileCache
from softlabels.storage.unfinished import write_text

assert platforms.OPEN_IS_LOCKED and not hasattr(platforms, "fcntl")
options = pipeline.RunOptions(backend="sequential")
for _ in range(2):
    done = pipeline.run("data_manifest.csv", "store", teacher="standin:teacher", jobs=1, options=options)
    assert (done.labelled, done.quarantined) == (14, 0), done
assert main(["verify", "store"]) == 0
store = softlabels.open("store")
labels = store.join("data_manifest.csv", windows="each")
again = store.join("data_manifest.csv", windows="each")
assert np.array_equal(labels.y_true(range(14)), again.y_true(range(14)), equal_nan=True)
labels.save("saved")
assert len(softlabels.load_labels("saved")) == 14
cache = FileCache(Path("cache"), 1000)
for number in range(9):
    with cache.borrow("", lambda: [bytes([number]) * 300]) as path:
        assert path.read_bytes() == bytes([number]) * 300
assert sum(each.stat().st_size for each in Path("cache").iterdir()) < 2000
for text in "ab":
    write_text("text.txt", text)
batches = softlabels.make_dataset(labels, batch_size=8)
student = keras.Sequential([keras.layers.Input((800,)), keras.layers.Dense(3)])
student.compile("sgd", softlabels.DistillationLoss.for_labels(labels))
history = student.fit(batches, steps_per_epoch=1, verbose=0)
assert np.isfinite(history.history["loss"]).all()
print("trained")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what Windows does is seen by Linux's /proc")
def test_labels_are_made_read_and_trained_on_without_what_windows_lacks(corpus: Corpus) -> None:
    tests = str(REPOSITORY / "tests")
    done = subprocess.run(
        [sys.executable, "-c", ON_WINDOWS],
        cwd=corpus.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), tests]), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.endswith("trained\n"), done.stdout + done.stderr


def names_that_windows_lacks(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            lacking = {"os": as_windows.OS | {"name"}, "signal": as_windows.SIGNAL, "sys": {"platform"}}
            if node.attr in lacking.get(node.value.id, ()):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in as_windows.MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in {*as_windows.MODULES, "os", "signal", "sys"}:
            yield f"from {node.module}"


def test_one_file_asks_which_system_this_is() -> None:
    asking = {
        REPOSITORY / "softlabels" / "platforms.py",
        REPOSITORY / "pipeline" / "teachers" / "birdnet.py",  # where another package keeps its files on each
    }
    found = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in FILES
        if path not in asking
        for name in names_that_windows_lacks(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize(
    "line",
    ["import os; os.fork()", "import fcntl", "from os import getuid", "import signal as s, resource", "import pty"],
)
def test_a_name_that_windows_lacks_is_found(line: str) -> None:
    assert list(names_that_windows_lacks(ast.parse(line)))


def in_the_encoding_of_the_user(tree: ast.AST) -> Iterator[int]:
    """Lines in which a text file is opened in whatever encoding the system likes: cp1252 on many."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of_path = isinstance(node.func, ast.Attribute)
        modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        binary = any(isinstance(mode, str) and set(mode) <= set("rwaxb+") and "b" in mode for mode in modes)
        if (name in ("read_text", "write_text") and of_path) or (name == "open" and not of_path and not binary):
            yield node.lineno
        if name in ("Popen", "run", "check_output") and any(k.arg == "text" for k in node.keywords):
            yield node.lineno


def test_text_is_read_and_written_in_an_encoding_that_is_named() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in FILES
        for line in in_the_encoding_of_the_user(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


# --- locks, between processes

HOLD = """
import sys
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice
from softlabels import platforms
from softlabels.errors import TeacherError
file = open(sys.argv[1], "r+b")
platforms.lock(file, shared=sys.argv[2] == "shared")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(path), how]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def is_free(path: Path, *, shared: bool) -> bool:
    with path.open("rb") as file:
        try:
            platforms.lock(file, shared=shared, wait=False)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("how", ["shared", "alone"])
def test_a_lock_keeps_others_out_follows_its_file_and_goes_with_its_holder(tmp_path: Path, how: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with held_elsewhere(path, how) as holder:
        path = path.rename(tmp_path / "renamed")
        assert is_free(path, shared=True) == (how == "shared")
        assert not is_free(path, shared=False)
        assert path.read_bytes() == b"content"  # nobody is kept from reading
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert is_free(path, shared=False)


def test_who_waits_for_a_lock_gets_it_when_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with held_elsewhere(path, "alone") as holder, path.open("rb") as file:
        waiting = threading.Thread(target=platforms.lock, args=(file,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        os.kill(holder.pid, signal.SIGKILL)
        waiting.join(60)
        assert not waiting.is_alive()


# --- places in files, names, ends of processes


def test_threads_read_and_write_at_their_places_where_there_is_no_pread(tmp_path: Path, monkeypatch) -> None:
    for name in ("pread", "preadv", "pwrite"):
        monkeypatch.delattr(os, name)
    path = tmp_path / "numbers"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file:

        def fill(number: int) -> None:
            for at in range(number, 4096, 16):
                assert platforms.write_at(file.fileno(), bytes([number]), at) == 1
                into = memoryview(bytearray(1))
                assert platforms.read_into(file.fileno(), into, at) == 1
                assert bytes(into) == bytes([number]) == platforms.read_at(file.fileno(), 1, at)

        threads = [threading.Thread(target=fill, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert platforms.read_into(file.fileno(), memoryview(bytearray(9)), 4095) == 1  # as much as there is
    assert path.read_bytes() == bytes(range(16)) * 256


@pytest.mark.parametrize(
    ("system", "code", "told"),
    [
        ("linux", -9, "signal 9 (SIGKILL)"),
        ("darwin", -11, "signal 11 (SIGSEGV)"),
        ("linux", 1, ""),
        ("win32", 0xC0000005, "exception 0xc0000005"),
        ("win32", 0xC00000FD - (1 << 32), "exception 0xc00000fd"),
        ("win32", 1, ""),
        ("win32", 0, ""),
    ],
)
def test_what_ended_a_process_is_told_by_its_exit_code(system: str, code: int, told: str, monkeypatch) -> None:
    monkeypatch.setattr(platforms.sys, "platform", system)
    assert platforms.killed_by(code) == told


WATCHED = """
import subprocess, sys
CHILD = '''
import sys, os, time
sys.platform = "darwin"  # where a thread has to look for the parent
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice
from softlabels import platforms
from softlabels.errors import TeacherError
platforms._WATCHED_EVERY_S = 0.05
platforms.die_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", CHILD]).wait()
"""


def test_a_worker_ends_with_its_parent_where_the_system_does_not_see_to_it() -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", WATCHED], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) > 1
        parent.kill()
        assert parent.stdout.read() == b""  # its end comes when nobody has it open any more


def test_a_process_ends_after_a_while_where_there_is_no_alarm() -> None:
    code = "import signal, time; del signal.alarm; from softlabels import platforms; platforms._LATER_S = 0"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = time.monotonic()
    command = [sys.executable, "-c", f"{code}; platforms.end_after(1); time.sleep(600)"]
    assert subprocess.run(command, env=environment, check=False, timeout=120).returncode == 1
    assert time.monotonic() - started > 1


# --- the container recipe


def test_the_container_is_built_from_the_lock_file_with_extras_and_a_command_that_there_are() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (REPOSITORY / "pipeline" / "running" / "README.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```dockerfile\n(.*?)```", text, re.DOTALL)
    (image,) = re.findall(r"^FROM python:([\d.]+)-slim$", recipe, re.MULTILINE)
    (lock, extras) = re.findall(r'pip install .* -c /src/(\S+) "/src\[(.*)\]"', recipe)[0]
    pinned = (REPOSITORY / lock).read_text(encoding="utf-8").splitlines()
    assert f"(Python {image}," in pinned[0]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert re.findall(r'ENTRYPOINT \["(.*)"\]', recipe) == list(project["scripts"])
    names = {line.partition("==")[0].lower() for line in pinned[1:]}
    needed = {re.split("[>=;<[]", each)[0].lower() for each in project["dependencies"]}
    assert needed <= names  # each at the version that was tested


@pytest.mark.parametrize("kind", ["birdnet", "litert"])
def test_without_litert_the_error_says_who_needs_it_and_what_does_not(kind: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(TeacherError, match=r"need LiteRT .* a `keras` or `onnx` teacher; reading a store and training"):
        load_teacher(TeacherChoice(kind=kind, model="m.tflite" if kind == "litert" else None))
