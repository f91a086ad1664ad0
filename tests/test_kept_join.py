"""A kept join is a file like any other: flipped, cut, swapped, forged or not given to us, it never becomes labels."""

import contextlib
import errno
import json
import os
import random
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_labels import made_labels

import softlabels
from pipeline.checking.verify import verify
from softlabels import JoinError
from softlabels.digests import canonical_json, sha256_of, sha256_of_file
from softlabels.errors import EnvironmentTrouble
from softlabels.kept.built_once import open_or_build
from softlabels.kept.kept_file import described
from softlabels.kept.soft_file import PAGE, open_soft, write_soft
from softlabels.labels.joined_labels import JoinedLabels
from softlabels.storage.file_cache import FileCache

ROWS, CLASSES = 600, 60  # 144,128 bytes of soft labels: three pages


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("made") / "joins"
    hard = random.choice([0.0, 1.0, np.nan], (ROWS, CLASSES), p=[0.1, 0.1, 0.8])
    made_labels(folder, hard, random.random((ROWS, CLASSES)), windows=3)
    return folder


@pytest.fixture
def kept(made: Path, tmp_path: Path) -> Path:
    """A folder with the join `join` and the soft array beside it."""
    return Path(shutil.copytree(made, tmp_path / "joins"))


def soft_of(folder: Path) -> Path:
    return next(folder.glob("soft-*"))


def flip(path: Path, byte: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        (old,) = os.pread(file.fileno(), 1, byte)
        os.pwrite(file.fileno(), bytes([old ^ 1 << bit]), byte)


def forge(folder: Path, change: Callable[[dict[str, Any]], object] = lambda header: None) -> None:
    """Change what join.json says, and carry all digests through."""
    header = json.loads((folder / "join.json").read_text())
    version = header.pop("version")
    del header["digest"]
    header["files"] = {name: described(folder / name) for name in header["files"]}
    change(header)
    data = {"version": version, "digest": sha256_of(header), **header}
    (folder / "join.json").write_bytes(canonical_json(data))


# --- bits that flip


def test_no_flipped_bit_of_a_kept_join_is_read_as_a_label(kept: Path) -> None:
    dice, silent, noticed = random.Random(5), [], 0
    truth = JoinedLabels.open(kept / "join").y_true()
    files = [soft_of(kept)] * 8 + sorted((kept / "join").iterdir())
    for _ in range(150):
        path = dice.choice(files)
        byte, bit = dice.randrange(path.stat().st_size), dice.randrange(8)
        flip(path, byte, bit)
        try:
            labels = JoinedLabels.open(kept / "join").y_true()
        except JoinError:
            noticed += 1
        else:
            silent += [] if np.array_equal(labels, truth, equal_nan=True) else [(path.name, byte, bit)]
        flip(path, byte, bit)
    assert silent == []
    assert noticed > 100


@pytest.mark.parametrize("row", [0, 272, ROWS - 1])
def test_a_page_is_looked_at_before_its_rows_are_given_out(kept: Path, row: int) -> None:
    labels = JoinedLabels.open(kept / "join")
    flip(soft_of(kept), 128 + 4 * CLASSES * row + 2)
    page = (128 + 4 * CLASSES * row) // PAGE
    first = (0 if page else ROWS // 2) if row != 272 else 400
    labels.y_true([first])  # of an intact page
    message = (
        r"soft-.*npy' is damaged: the checksums of 1 of its pages differ, the first at row \d+; delete it and join"
    )
    for _ in range(2):
        with pytest.raises(JoinError, match=message):
            labels.y_true([first, row])
        with pytest.raises(JoinError, match=message):
            labels.soft_at([f"k{row // 3}"], [float(row % 3)])
        for take in ([row], slice(row, row + 1), -ROWS + row, np.arange(ROWS) == row, (np.array([row]), np.array([1]))):
            with pytest.raises(JoinError, match=message):
                labels._saved.arrays.soft[take]


def test_rows_wider_than_a_page_are_looked_at_from_end_to_end(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((4, 40_000), np.float32)  # 160,000 bytes a row
    for byte in (130, 128 + 160_000 - 1, 128 + 160_000 + 70_000, 128 + 4 * 160_000 - 1):
        path = tmp_path / f"soft-{byte}.npy"
        write_soft(path, values.shape, [values])
        flip(path, byte, 3)
        soft, damaged = open_soft(path, values.shape), (byte - 128) // 160_000
        with pytest.raises(JoinError, match="is damaged"):
            soft[damaged]
        np.testing.assert_array_equal(soft[(damaged + 2) % 4], values[(damaged + 2) % 4])


def test_many_threads_see_all_pages_once_and_the_same_labels(kept: Path) -> None:
    labels = JoinedLabels.open(kept / "join")
    truth, soft = labels.y_true(), JoinedLabels.open(kept / "join")
    rows = [np.random.default_rng(i).permutation(ROWS) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for some, found in zip(rows, pool.map(soft.y_true, rows), strict=True):
            np.testing.assert_array_equal(found, truth[some])
    arrays = soft._saved.arrays.soft
    arrays.checked(rows[0][:1])
    assert not arrays._any_unseen, "batches pay nothing from here on"


def test_an_array_without_rows_is_kept_and_opened(tmp_path: Path) -> None:
    write_soft(tmp_path / "soft.npy", (0, 3), [])
    soft = open_soft(tmp_path / "soft.npy", (0, 3), verify=True)
    assert soft[np.zeros(0, int)].shape == (0, 3)
    assert soft[:].shape == (0, 3)


def test_another_intact_soft_half_under_the_same_name_is_noticed(kept: Path) -> None:
    values = JoinedLabels.open(kept / "join").soft()[::-1]
    write_soft(kept / "other.npy", values.shape, [values])
    os.replace(kept / "other.npy", soft_of(kept))
    with pytest.raises(JoinError, match="holds other soft labels; delete the folder and join again"):
        JoinedLabels.open(kept / "join")


def test_what_became_damaged_is_not_saved(kept: Path, tmp_path: Path) -> None:
    labels = JoinedLabels.open(kept / "join")
    labels.y_true()  # every page was intact once
    flip(soft_of(kept), 100_000)
    with pytest.raises(JoinError, match="is damaged"):
        labels.save(tmp_path / "saved")


def test_verify_looks_at_all_kept_joins_and_at_arrays_that_no_join_names(corpus, store) -> None:
    labels = store.join(corpus.manifest)
    joins = labels.path.parent
    write_soft(joins / f"components-{'0' * 64}.npy", (9, 4), [np.zeros((9, 4), np.float32)])
    assert verify(store).good
    for path in (next(joins.glob("soft-*")), labels.path / "clip.npy", next(joins.glob("components-*"))):
        flip(path, 140)
        (problem,) = verify(store).problems
        assert problem.startswith(f"joins/{path.name if path.parent == joins else labels.path.name}: ")
        assert "is damaged" in problem
        assert problem.endswith("delete it: the next join builds it again")
        flip(path, 140)
    header = json.loads((labels.path / "join.json").read_text())
    (labels.path / "join.json").write_text(json.dumps({**header, "version": 3}))  # nobody reads it any more
    assert verify(store).good


def test_a_join_of_an_older_version_is_loaded_and_read_in_full(kept: Path, tmp_path: Path) -> None:
    labels = JoinedLabels.open(kept / "join")
    saved = labels.save(tmp_path / "saved")
    data = (saved / "soft.npy").read_bytes()[: 128 + 4 * ROWS * CLASSES]
    (saved / "soft.npy").write_bytes(data + bytes(32))  # the digest that followed it then
    forge(saved, lambda header: header.pop("soft_digest"))
    header = json.loads((saved / "join.json").read_text())
    (saved / "join.json").write_text(json.dumps({**header, "version": 3}))
    old = softlabels.load_labels(saved, verify=False)
    np.testing.assert_array_equal(old.y_true(), labels.y_true())
    again = softlabels.load_labels(old.save(tmp_path / "again"), verify=False)
    np.testing.assert_array_equal(again.y_true(), labels.y_true())
    flip(saved / "soft.npy", 70_000)
    with pytest.raises(JoinError, match="soft.npy is damaged: expected .*sha256"):
        softlabels.load_labels(saved, verify=False)


# --- a machine that does not give us the file


def test_a_process_without_descriptors_leaves_a_good_join_alone(kept: Path) -> None:
    folder, soft, hard = kept / "join", soft_of(kept), resource.getrlimit(resource.RLIMIT_NOFILE)
    before = {path: path.stat().st_ino for path in (*folder.iterdir(), soft)}
    JoinedLabels.open(folder)  # what is imported on the way is imported
    troubles, opened = [], None
    for limit in range(3, 300):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard[1]))
        try:
            opened = open_or_build(folder, lambda: JoinedLabels.open(folder), lambda _: pytest.fail("built again"))
        except EnvironmentTrouble as e:
            troubles.append("Too many open files" in str(e))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, hard)
        if opened is not None:
            break
    assert len(troubles) >= 5
    assert all(troubles)
    assert before == {path: path.stat().st_ino for path in (*folder.iterdir(), soft)}


@pytest.mark.parametrize("number", [errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EIO, errno.ESTALE, errno.EPERM])
def test_trouble_with_any_file_is_no_damage(kept: Path, monkeypatch, number: int) -> None:
    folder, open_, calls, failing = kept / "join", os.open, [], [0]

    def fail(path: Any, *arguments: Any, **keywords: Any) -> int:
        calls.append(path)
        if len(calls) == failing[0]:
            raise OSError(number, os.strerror(number))
        return open_(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", fail)
    JoinedLabels.open(folder)
    for failing[0] in range(1, len(calls) + 1):
        calls.clear()
        with pytest.raises(EnvironmentTrouble, match=f"cannot be read now: {os.strerror(number)}"):
            open_or_build(folder, lambda: JoinedLabels.open(folder), lambda _: pytest.fail("built again"))
    calls.clear()
    failing[0] = 0
    assert len(JoinedLabels.open(folder)) == ROWS


def test_a_disk_that_fails_while_a_page_is_read_is_no_damage(kept: Path, monkeypatch) -> None:
    labels = JoinedLabels.open(kept / "join")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(EnvironmentTrouble, match="soft-.* cannot be read now: Input/output error"):
            labels.y_true([1])
    assert np.isfinite(labels.soft([1])).all()


def test_no_memory_is_no_damage(kept: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pa.ipc, "read_record_batch", fail)
    with pytest.raises(EnvironmentTrouble, match="clips.arrow' cannot be read now: out of memory"):
        JoinedLabels.open(kept / "join")


# --- joins that somebody forged, with digests that fit


LONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "soft": lambda header: header.update(soft="../soft-" + "a" * (33 << 20)),
    "a note": lambda header: header["report"].update(notes=["a" * (33 << 20)]),
    "a field that there is not": lambda header: header.update(more="a" * (33 << 20)),
}


@pytest.mark.parametrize("change", LONG)
def test_a_huge_join_json_is_refused_before_it_is_read(kept: Path, change: str) -> None:
    forge(kept / "join", LONG[change])
    with pytest.raises(JoinError, match=r"join.json' is damaged: expected at most 33,554,432 bytes, got \d\d,"):
        JoinedLabels.open(kept / "join")


@pytest.mark.parametrize("name", ["clip.npy", "hard_value.npy", "clips.arrow"])
def test_a_file_that_grew_is_refused_before_it_is_digested(kept: Path, name: str, monkeypatch) -> None:
    def digest(path: Path) -> str:
        return pytest.fail("all of it was read") if path.name == name else sha256_of_file(path)

    monkeypatch.setattr("softlabels.kept.kept_file.sha256_of_file", digest)
    os.truncate(kept / "join" / name, 3 << 30)  # sparse
    with pytest.raises(JoinError, match=f"{name} is damaged: expected"):
        JoinedLabels.open(kept / "join")


def rewritten(columns: Callable[[dict[str, Any]], object], **options: Any) -> Callable[[Path], None]:
    """Write clips.arrow once more, with columns that were changed."""

    def change(path: Path) -> None:
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        arrays = {name: table[name].combine_chunks() for name in table.column_names}
        columns(arrays)
        table = pa.table(arrays)
        compressed = pa.ipc.IpcWriteOptions(**options)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=compressed) as writer:
            writer.write_table(table)

    return change


def patched(old: np.ndarray, new: np.ndarray) -> Callable[[Path], None]:
    """Replace the bytes of a buffer in the file."""

    def change(path: Path) -> None:
        data = path.read_bytes()
        assert old.tobytes() in data
        path.write_bytes(data.replace(old.tobytes(), new.tobytes()))

    return change


OFFSETS = np.cumsum([0, *(len(f"k{i}") for i in range(ROWS // 3))]).astype(np.int32)  # of clip_id
ARROW: dict[str, Callable[[Path], None]] = {
    "offsets beyond the data": patched(OFFSETS, np.append(OFFSETS[:-1], np.int32(1 << 30))),
    "offsets that go back": patched(OFFSETS, np.append(OFFSETS[:-1], np.int32(-5))),
    "offsets far off in between": patched(OFFSETS, np.where(np.arange(len(OFFSETS)) == 77, 1 << 29, OFFSETS)),
    "no UTF-8": patched(np.frombuffer(b"k198k199", np.uint8), np.frombuffer(b"k198\xff\xfe\xfd\xfc", np.uint8)),
    "dictionary indices": rewritten(lambda c: c.update(path=c["path"].dictionary_encode())),
    "large strings": rewritten(lambda c: c.update(clip_id=c["clip_id"].cast(pa.large_string()))),
    "numbers of another type": rewritten(lambda c: c.update(start=c["start"].cast(pa.int32()))),
    "a column less": rewritten(lambda c: c.pop("sha256")),
    "a column more": rewritten(lambda c: c.update(more=c["start"])),
    "compressed": rewritten(lambda c: None, compression="zstd"),
    "compressed otherwise": rewritten(lambda c: None, compression="lz4"),
    "fewer rows": rewritten(lambda c: c.update({name: values[:-1] for name, values in c.items()})),
    "no rows": rewritten(lambda c: c.update({name: values[:0] for name, values in c.items()})),
    "nulls": rewritten(lambda c: c.update(split=pa.nulls(len(c["split"]), pa.string()))),
    "negative rate": rewritten(lambda c: c.update(rate_hz=pa.array([-8] * len(c["rate_hz"])))),
    "paths outside": rewritten(lambda c: c.update(path=pa.array(["a/../../b"] * len(c["path"])))),
    "absolute paths": rewritten(lambda c: c.update(path=pa.array(["/etc/passwd"] * len(c["path"])))),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("clip_id,path\n" * 999),
}


@pytest.mark.parametrize("change", ARROW)
def test_a_table_of_clips_is_looked_at_before_it_is_believed(kept: Path, change: str) -> None:
    ARROW[change](kept / "join" / "clips.arrow")
    forge(kept / "join")
    with pytest.raises(JoinError, match="join"):
        JoinedLabels.open(kept / "join")


@pytest.mark.parametrize("rows", ["one clip more", "fewer windows", "no windows"])
def test_saved_labels_whose_rows_are_no_windows_of_their_clips_are_refused(kept: Path, rows: str, tmp_path) -> None:
    saved = JoinedLabels.open(kept / "join").save(tmp_path / "saved")
    counts = {
        "one clip more": lambda n: np.where(np.arange(len(n)) == 7, 2, n),
        "fewer windows": lambda n: n - 1,
        "no windows": lambda n: 0 * n,
    }[rows]
    rewritten(lambda c: c.update(windows=pa.array(counts(c["windows"].to_numpy()))))(saved / "clips.arrow")
    forge(saved)
    with pytest.raises(JoinError, match="rows, the first of clip k[07], that are none of its windows"):
        softlabels.load_labels(saved, root=tmp_path)


@pytest.mark.parametrize("change", [{1: 0}, {1: 2, 2: 1}, {5: 9}, {ROWS - 1: 0}, {0: 2, 1: 2}, {599: 2**31 - 1}])
def test_saved_labels_with_a_window_twice_or_out_of_order_are_refused(kept: Path, change: dict, tmp_path) -> None:
    saved = JoinedLabels.open(kept / "join").save(tmp_path / "saved")
    window = np.load(saved / "window_index.npy")
    window[list(change)] = list(change.values())
    np.save(saved / "window_index.npy", window)
    forge(saved)
    for everything in (True, False):
        with pytest.raises(JoinError, match="that are none of its windows, or not in order"):
            softlabels.load_labels(saved, root=tmp_path, verify=everything)


def test_a_batch_of_eight_gigabytes_in_a_small_file_is_refused_before_it_is_made(kept: Path) -> None:
    path = kept / "join" / "clips.arrow"
    rewritten(lambda c: None, compression="zstd")(path)
    data = path.read_bytes()
    lengths = np.array([8 * (ROWS // 3)], np.int64).tobytes()  # before each compressed column of numbers
    assert lengths in data
    path.write_bytes(data.replace(lengths, np.array([8 << 30], np.int64).tobytes()))
    forge(kept / "join")
    before = pa.total_allocated_bytes()
    with pytest.raises(JoinError, match="not compressed"):
        JoinedLabels.open(kept / "join")
    assert pa.total_allocated_bytes() - before < 1 << 20


ARRAYS = {
    "clip beyond": ("clip.npy", lambda x: x + 1000),
    "clip below": ("clip.npy", lambda x: x - 1),
    "clip falls": ("clip.npy", lambda x: x[::-1]),
    "clip of another type": ("clip.npy", lambda x: x.astype(np.int64)),
    "clip in columns": ("clip.npy", lambda x: x[:, None]),
    "one row less": ("window_index.npy", lambda x: x[1:]),
    "window below 0": ("window_index.npy", lambda x: x - 1),
    "start nowhere": ("start_s.npy", lambda x: x * np.nan),
    "group beyond": ("hard_group.npy", lambda x: x + 1),
    "entry beyond": ("hard_index.npy", lambda x: x + CLASSES),
    "entry below 0": ("hard_index.npy", lambda x: x - CLASSES),
    "offsets beyond": ("hard_offsets.npy", lambda x: x + 1),
    "offsets fall": ("hard_offsets.npy", lambda x: np.append(x[-2::-1], x[-1]) * (np.arange(len(x)) > 0)),
    "value above 1": ("hard_value.npy", lambda x: x + 7),
    "objects": ("hard_value.npy", lambda x: x.astype(object)),
}


@pytest.mark.parametrize("change", ARRAYS)
def test_numbers_that_point_at_nothing_are_refused(kept: Path, change: str) -> None:
    name, changed = ARRAYS[change]
    path = kept / "join" / name
    np.save(path, changed(np.load(path)))
    forge(kept / "join")
    with pytest.raises(JoinError, match="join"):
        JoinedLabels.open(kept / "join")


def test_arrays_that_are_no_arrays_are_refused(kept: Path) -> None:
    path = kept / "join" / "clip.npy"
    good = path.read_bytes()
    for data in (
        b"",
        b"PK\x03\x04" + good[4:],
        good[:100],
        good[:-1],
        good.replace(b"(600,)", b"(6**9)"),
        good.replace(b"(600,)", b"(10e9)"),
        b"\x93NUMPY\x02" + good[7:],
    ):
        path.write_bytes(data)
        forge(kept / "join")
        with pytest.raises(JoinError, match="clip.npy' is damaged"):
            JoinedLabels.open(kept / "join")


STRANGE = (None, -1, 1e308, "../../../etc/passwd", [[]], {"x": 1})


def test_whatever_join_json_says_is_an_error_with_a_name_or_the_same_rows(kept: Path) -> None:
    folder, text = kept / "join", (kept / "join" / "join.json").read_text()
    header, hard = json.loads(text), JoinedLabels.open(folder).hard([0, 5])
    places = [(name,) for name in header if name not in ("version", "digest")]
    places += [(name, key) for name in ("window", "report", "files") for key in header[name]]
    outside = sorted(kept.parent.rglob("*"))
    for number, place in enumerate(places):
        for value in STRANGE[number % 2 :: 2]:

            def put(header: dict[str, Any], place: tuple = place, value: Any = value) -> None:
                for key in place[:-1]:
                    header = header[key]
                header[place[-1]] = value

            forge(folder, put)
            with contextlib.suppress(JoinError):
                np.testing.assert_array_equal(JoinedLabels.open(folder).y_true([0, 5])[:, :CLASSES], hard)
            (folder / "join.json").write_text(text)
    assert sorted(kept.parent.rglob("*")) == outside


@pytest.mark.parametrize("name", ["../victim.npy", "/etc/passwd", "../soft-x.npy", "soft.npy/../../victim", ""])
def test_a_soft_half_has_a_name_that_we_would_give_it(kept: Path, name: str) -> None:
    soft_of(kept).rename(kept / "victim.npy")
    forge(kept / "join", lambda header: header.update(soft=name))
    with pytest.raises(JoinError, match="expected the files of a join"):
        JoinedLabels.open(kept / "join")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(kept: Path) -> None:
    for name in ("clips.arrow", "clip.npy", "join.json"):
        path = kept / "join" / name
        data = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(JoinError, match="expected a file"):
            JoinedLabels.open(kept / "join")
        path.unlink()
        path.write_bytes(data)


# --- what is deleted


def fetched() -> list[bytes]:
    return [b"from the bucket"]


NO_DIGESTS = ["../victim", "victim", "/victim", "A" * 64, "0" * 63, "0" * 65, "../" + "0" * 64, "0" * 64 + "\n"]


@pytest.mark.parametrize("name", NO_DIGESTS)
def test_text_that_is_no_digest_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    cache = FileCache(tmp_path / "cache", 1000)
    cache.folder.mkdir()
    victims = (tmp_path / "victim", tmp_path / ("0" * 64), cache.folder / "victim")
    for victim in victims:
        victim.write_text("mine")
    with cache.borrow(str(tmp_path / "victim") if name == "/victim" else name, fetched) as path:
        assert path.read_bytes() == b"from the bucket"
        assert path.parent == tmp_path / "cache"
    assert [victim.read_text() for victim in victims] == ["mine"] * 3


def test_a_cache_clears_away_only_what_a_cache_has_put_there(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", 10)
    cache.folder.mkdir()
    (cache.folder / "thesis.txt").write_text("x" * 100)
    (tmp_path / "outside").write_text("y" * 100)
    (cache.folder / ("1" * 64)).symlink_to(tmp_path / "outside")
    (cache.folder / ("2" * 64)).write_text("z" * 100)
    with cache.borrow("", fetched):
        pass
    left = {path.name for path in cache.folder.iterdir()}
    assert {"thesis.txt", "1" * 64} <= left
    assert "2" * 64 not in left
    assert (tmp_path / "outside").exists()


def test_a_file_that_was_fetched_again_while_the_cache_is_cleared_stays(tmp_path: Path, monkeypatch) -> None:
    import fcntl

    cache, name, lock = FileCache(tmp_path, 10), "3" * 64, fcntl.flock
    (tmp_path / name).write_text("x" * 100)

    def replaced(descriptor: int, how: int) -> None:
        lock(descriptor, how)
        if how == fcntl.LOCK_EX | fcntl.LOCK_NB:  # another process was faster, and a third has it in use now
            (tmp_path / name).unlink()
            (tmp_path / name).write_text("in use")

    monkeypatch.setattr(fcntl, "flock", replaced)
    cache._clear()
    assert (tmp_path / name).read_text() == "in use"
