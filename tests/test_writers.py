"""Whatever is written is there in full under its name, or what was there before is; on any disk, by any clock."""

import ast
import contextlib
import errno
import fcntl
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, label, shard_bytes

import pipeline.planning.prepare as prepare
import softlabels
from pipeline.cli.commands import main
from pipeline.drafts.class_mapping import DraftRow, write_draft
from pipeline.report.suspects import Suspect, write_suspects
from softlabels import Clip, SoftLabelStore, platforms
from softlabels.calibration.report import Report
from softlabels.errors import EnvironmentTrouble, StorageFullError, StoreError
from softlabels.kept import built_once
from softlabels.storage import unfinished
from softlabels.storage.file_cache import FileCache
from softlabels.storage.local import LocalStorage

STAND_IN = ("--teacher", "standin:teacher", "--backend", "sequential", "--shard-windows", "4")
DAY_S = 86_400


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: what a full disk does, by the kernel itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class LongReport(Report):
    def to_json(self) -> dict[str, object]:
        return {"text": "x" * 10_000}


def a_suspect(clip_id: str = "c0") -> Suspect:
    return Suspect(
        clip=Clip(clip_id=clip_id, path=f"{clip_id}.wav", labels=("Aus aus_Alpha",)),
        window=0,
        window_index=0,
        start_s=0.0,
        label="Aus aus_Alpha",
        label_probability=0.1,
        teacher_class="Bus bus_Beta",
        teacher_probability=0.9,
        score=4.0,
    )


MANY = [Clip(clip_id=f"c{i}", path=f"some/folder/c{i}.wav") for i in range(400)]
WRITERS: dict[str, Callable[[Path], object]] = {
    "manifest": lambda path: softlabels.write_manifest(MANY, path),
    "suspects": lambda path: write_suspects([a_suspect()] * 400, path),
    "report of a calibration": lambda path: LongReport().save(path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_fills_up_leaves_the_older_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.csv"
    path.write_text("older")
    with files_of_at_most(4096), pytest.raises(StorageFullError, match=r"while writing out\.csv; make room"):
        WRITERS[kind](path)
    assert (path.read_text(), names_in(tmp_path)) == ("older", {"out.csv"})
    WRITERS[kind](path)
    assert path.read_text() != "older"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_last_step_that_fails_leaves_the_older_file(tmp_path, monkeypatch, call: str, number: int) -> None:
    path = tmp_path / "out.csv"
    path.write_text("older")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"softlabels.storage.unfinished.os.{call}", fail)
    with pytest.raises((StorageFullError, OSError)):
        softlabels.write_manifest(MANY, path)
    assert (path.read_text(), names_in(tmp_path)) == ("older", {"out.csv"})


def test_a_draft_is_there_in_full_or_not_at_all_and_replaces_nothing(tmp_path: Path) -> None:
    rows = [DraftRow(student_class=f"A{i} b_C{i}", teacher_class="", how="", look=True) for i in range(400)]
    with files_of_at_most(4096), pytest.raises(StorageFullError):
        write_draft(rows, tmp_path / "mapping.csv")
    assert names_in(tmp_path) == set()
    (tmp_path / "mapping.csv").write_text("edited for an hour")
    with pytest.raises(softlabels.ClassListError, match="is there already"):
        write_draft(rows, tmp_path / "mapping.csv")
    assert (tmp_path / "mapping.csv").read_text() == "edited for an hour"
    assert names_in(tmp_path) == {"mapping.csv"}


def test_an_older_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "out.csv"
    real.write_text("older")
    real.chmod(0o640)
    (tmp_path / "link.csv").symlink_to(real)
    softlabels.write_manifest(MANY[:1], tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert softlabels.read_manifest(real) == MANY[:1]
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        softlabels.write_manifest(MANY[1:2], real)
    assert softlabels.read_manifest(real) == MANY[:1]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit((tmp_path / "pipe").read_text)
        softlabels.write_manifest(MANY[:1], tmp_path / "pipe")
        assert reading.result(10) == "clip_id,path,label\nc0,some/folder/c0.wav,\n"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


# Each of these writes below a name that `all_or_nothing`, `unfinished` or `text_file` gave it, or appends.
WHO_WRITES = {
    "softlabels/storage/unfinished.py",
    "softlabels/storage/file_cache.py",  # into an unfinished file
    "softlabels/kept/built_once.py",  # an empty file that is locked
    "softlabels/kept/in_parts.py",  # an array so far, under the temporary name of one builder
    "softlabels/kept/soft_file.py",
    "softlabels/sound/unchanged.py",
    "softlabels/labels/saved.py",
    "softlabels/store/components.py",  # into memory
    "softlabels/records/shard.py",
    "softlabels/records/plan_file.py",
    "pipeline/planning/probe_files.py",  # appends lines, the last of which may be cut short
    "pipeline/models/model_files.py",  # into a private folder
    "pipeline/models/first_opening.py",  # an empty file: its name is all
    "pipeline/teachers/opened_in_child.py",
    "softlabels/store/own_runs.py",  # into an unfinished file
    "pipeline/exports/birdnet_stm32.py",
    "pipeline/exports/detections.py",
    "pipeline/exports/dataset_folder.py",
    "softlabels/platforms.py",  # /dev/null
    "pipeline/terminal/streams.py",  # /dev/null
}
WRITING = {"to_csv", "to_parquet", "write_bytes", "savez", "save_array", "open_memmap", "tofile", "touch"}


def writes(node: ast.AST) -> bool:
    """Whether a call opens a file for writing, or writes one."""
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
    of_numpy = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "np" and name == "save"
    opens = name == "open" and any(
        isinstance(m, str) and set(m) <= set("rwaxbt+") and set(m) & set("wax+") for m in modes
    )
    ours = isinstance(node.func, ast.Name)  # write_text() of `unfinished`, not a method of a path
    return name in WRITING or (name == "write_text" and not ours) or of_numpy or opens


def test_nobody_else_opens_a_file_to_write() -> None:
    found = set()
    for path in (path for package in ("softlabels", "pipeline") for path in (REPOSITORY / package).rglob("*.py")):
        if any(map(writes, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))):
            found.add(path.relative_to(REPOSITORY).as_posix())
    assert found <= WHO_WRITES


# --- exports, joins and saved labels on a full disk

FORMATS = {"birdnet-stm32": "cache", "detections": "table.csv", "hf": "dataset"}


@pytest.mark.parametrize("out", ["cache", "table.csv", "table.parquet", "dataset"])
def test_an_export_that_finds_no_room_says_so_and_leaves_nothing(
    store: SoftLabelStore, tmp_path, monkeypatch, capsys, out: str
) -> None:
    to = next(name for name, usual in FORMATS.items() if Path(usual).stem == Path(out).stem)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for size in (0, 100, 300):
        with files_of_at_most(size):
            code = main(["export", str(store.storage), "--to", to, "-o", f"out/{out}"])
        error = capsys.readouterr().err
        assert (code, names_in(tmp_path / "out")) == (3, set()), error
        assert f"softlabels export: '{tmp_path / 'out'}': File too large" in error.replace("'out'", f"'{tmp_path}/out'")
        assert "make room" in error
    assert main(["export", str(store.storage), "--to", to, "-o", f"out/{out}"]) == 0


def test_a_mapped_export_takes_its_room_before_it_is_mapped(store, tmp_path, monkeypatch, capsys) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert main(["export", str(store.storage), "--to", "birdnet-stm32", "-o", str(tmp_path / "cache")]) == 3
    assert "No space left on device while writing cache; make room" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("trouble", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, None])
@pytest.mark.parametrize("size", [1, 4097, (1 << 20) + 5])
def test_room_is_taken_where_the_system_has_no_call_for_it(tmp_path, monkeypatch, trouble, size: int) -> None:
    def none(*_: object) -> None:
        raise OSError(trouble, os.strerror(trouble))

    if trouble is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", none)
    with open(tmp_path / "f", "w+b") as file:
        file.write(b"head"[:size])
        file.truncate(size)
        file.flush()
        unfinished.allocate(file.fileno(), size)
    assert (tmp_path / "f").read_bytes() == b"head"[:size].ljust(size, b"\0")
    assert (tmp_path / "f").stat().st_blocks * 512 >= size


@pytest.mark.parametrize("array", [np.arange(7), np.zeros(0, np.int64), np.eye(3, dtype=np.float32).T[:, :2]])
def test_arrays_are_written_as_numpy_writes_them(tmp_path, array: np.ndarray) -> None:
    unfinished.save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", np.ascontiguousarray(array))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


@pytest.mark.parametrize("size", [0, 64, 200, 400])
def test_a_join_that_finds_no_room_says_so_and_leaves_nothing(corpus: Corpus, store, tmp_path, size: int) -> None:
    with files_of_at_most(size), pytest.raises(StorageFullError, match="make room"):
        store.join(corpus.manifest, cache_dir=tmp_path / "kept")
    assert not [name for name in names_in(tmp_path / "kept") if not name.startswith("soft-")]  # complete, and kept


def test_labels_that_find_no_room_are_not_saved_at_all(corpus: Corpus, store, tmp_path) -> None:
    labels = store.join(corpus.manifest)
    for size in (0, 200, 500):
        with files_of_at_most(size), pytest.raises(StorageFullError, match="while writing saved; make room"):
            labels.save(tmp_path / "saved")
        assert "saved" not in names_in(tmp_path)
        assert not [name for name in names_in(tmp_path) if name.startswith(".tmp-")]
    assert len(softlabels.load_labels(labels.save(tmp_path / "saved"))) == len(labels)


# --- file systems without links

NO_LINKS = [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS]


def without_links(monkeypatch, number: int) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_link)


@pytest.mark.parametrize("number", NO_LINKS)
def test_without_links_the_first_still_counts(tmp_path, monkeypatch, number: int) -> None:
    without_links(monkeypatch, number)
    storage = LocalStorage(tmp_path / "store")
    storage.check()
    assert not (tmp_path / "store").exists()
    start = threading.Barrier(8)

    def race(i: int) -> bool:
        start.wait()
        return storage.put_if_absent("a/x", bytes([i]) * 1000)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert sum(won) == 1
    assert storage.get("a/x") == bytes([won.index(True)]) * 1000
    assert names_in(tmp_path / "store" / "a") == {"x"}


def test_without_links_a_store_is_the_same(corpus: Corpus, monkeypatch) -> None:
    calm = shard_bytes(label(corpus).storage.root)
    without_links(monkeypatch, errno.EPERM)
    monkeypatch.chdir(corpus.folder)
    assert main(["run", "-o", "other", *STAND_IN]) == 0
    assert shard_bytes(corpus.folder / "other") == calm


class NoRename:
    """A C library whose file systems cannot rename without replacing."""

    @staticmethod
    def renameat2(*_: object) -> int:
        import ctypes

        ctypes.set_errno(errno.EINVAL)
        return -1


@pytest.mark.parametrize("library", [NoRename, object])
def test_a_disk_that_cannot_hold_a_store_is_found_out_before_anything_is_probed(
    corpus: Corpus, monkeypatch, capsys, library: type
) -> None:
    without_links(monkeypatch, errno.EPERM)
    monkeypatch.setattr(platforms.ctypes, "CDLL", lambda *_, **__: library())
    monkeypatch.setattr(prepare, "probe_files", lambda *_, **__: pytest.fail("it was probed"))
    monkeypatch.chdir(corpus.folder)
    before = names_in(corpus.folder)
    assert main(["run", *STAND_IN]) == 3
    error = capsys.readouterr().err
    assert "store 'soft_labels': its file system can neither link nor rename" in error
    assert error.count("\n") == 1
    assert names_in(corpus.folder) == before


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StorageFullError), (errno.EROFS, StoreError), (errno.EACCES, StoreError)]
)
def test_a_place_that_takes_no_file_is_found_out_before_anything_is_probed(
    corpus: Corpus, monkeypatch, number: int, kind: type[Exception]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    label(corpus)
    monkeypatch.setattr(unfinished, "open", refuse, raising=False)
    with pytest.raises(kind, match=os.strerror(number)):
        LocalStorage(corpus.folder / "new" / "store").check()
    LocalStorage(corpus.folder / "store").check()  # of a store that is there, nothing may be left to write


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_need_not_be_synced_but_a_file(tmp_path, monkeypatch, number: int) -> None:
    real, of_folders = os.fsync, True

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == of_folders:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    storage = LocalStorage(tmp_path)
    expected = pytest.raises(OSError, match="error") if number == errno.EIO else contextlib.nullcontext()
    for put in (storage.put, storage.put_if_absent):
        with expected:
            put(f"a/{put.__name__}", b"1")
    of_folders = False
    with pytest.raises(OSError, match=os.strerror(number)):
        storage.put("a/y", b"1")
    assert "y" not in names_in(tmp_path / "a")


# --- clocks


FRESH, OLD = (f"0000{n}-0123456789ab.parquet" for n in (0, 1))  # names of ours: no others are swept
TMP_FRESH, TMP_OLD = (f".tmp-{n:016x}" for n in (0, 1))


def two_days_off(monkeypatch, seconds: float) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


@pytest.mark.parametrize("off_s", [2 * DAY_S, 40 * 365 * DAY_S, -2 * DAY_S])
def test_a_clock_that_is_off_sweeps_what_is_old_and_nothing_fresh(tmp_path, monkeypatch, off_s: float) -> None:
    storage = LocalStorage(tmp_path)
    for name in (FRESH, TMP_FRESH, OLD):
        storage.put(f"shards/{name}", b"1")
    for name in (TMP_FRESH, TMP_OLD):
        storage.put(f"joins/{name}", b"1")
    for path in (tmp_path / "shards" / OLD, tmp_path / "joins" / TMP_OLD):
        os.utime(path, (time.time() - 2 * DAY_S,) * 2)
    two_days_off(monkeypatch, off_s)
    assert storage.sweep("shards", set(), older_than_s=DAY_S) == 1
    assert names_in(tmp_path / "shards") == {FRESH, TMP_FRESH}
    built_once._sweep(tmp_path / "joins")
    assert names_in(tmp_path / "joins") == {TMP_FRESH}


def test_the_clock_of_a_server_decides(tmp_path, monkeypatch) -> None:
    """Files dated by a server whose clock is 2 days behind are fresh by it, and a day old ones are old."""
    storage, real = LocalStorage(tmp_path), unfinished.write_new

    def dated(path: Path, data: bytes) -> None:
        real(path, data)
        os.utime(path, (time.time() - 2 * DAY_S,) * 2)

    monkeypatch.setattr(unfinished, "write_new", dated)
    monkeypatch.setattr("softlabels.storage.local.write_new", dated)
    storage.put(f"shards/{FRESH}", b"1")
    storage.put(f"shards/{OLD}", b"1")
    os.utime(tmp_path / "shards" / OLD, (time.time() - 3.5 * DAY_S,) * 2)
    assert storage.sweep("shards", set(), older_than_s=DAY_S) == 1
    assert names_in(tmp_path / "shards") == {FRESH}


def test_nothing_is_swept_through_a_link(tmp_path) -> None:
    storage = LocalStorage(tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("1")
    (tmp_path / "store" / "claims").symlink_to(tmp_path / "home")
    storage.put(f"shards/{FRESH}", b"1")
    (tmp_path / "store" / "shards" / OLD).symlink_to(tmp_path / "home" / "precious")
    assert storage.sweep("claims", set(), older_than_s=-5) == 0
    assert storage.sweep("shards", set(), older_than_s=-5) == 1
    assert names_in(tmp_path / "home") == {"precious"}


# --- a cache file in use


def test_a_file_that_was_cleared_and_fetched_again_meanwhile_stays(tmp_path, monkeypatch) -> None:
    """Between opening a file and locking it, others delete it, and put and borrow a new one of the same name."""
    cache, data = FileCache(tmp_path, 0), b"x" * 90
    with cache.borrow("", lambda: [data]) as path:
        pass
    path.write_bytes(data)
    real, held = fcntl.flock, []

    def lock(file, how: int) -> None:
        if how & fcntl.LOCK_EX and not held:
            os.unlink(path)
            path.write_bytes(data)
            held.append(open(path, "rb"))  # noqa: SIM115
            real(held[0], fcntl.LOCK_SH)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    cache._clear()
    assert held
    assert path.read_bytes() == data
    held[0].close()
    cache._clear()
    assert not path.exists()


def test_without_links_the_cache_keeps_files_all_the_same(tmp_path, monkeypatch) -> None:
    without_links(monkeypatch, errno.EPERM)
    with FileCache(tmp_path, 1000).borrow("", lambda: [b"a", b"b"]) as path:
        assert path.read_bytes() == b"ab"
    assert names_in(tmp_path) == {path.name}
    monkeypatch.setattr(platforms.ctypes, "CDLL", lambda *_, **__: NoRename())
    with pytest.raises(EnvironmentTrouble, match="XDG_CACHE_HOME"):
        FileCache(tmp_path, 1000).borrow("", lambda: [b"c"]).__enter__()
