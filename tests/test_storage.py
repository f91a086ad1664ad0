import datetime
import errno
import hashlib
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from bucket import Server, serve, use_buckets

from softlabels import StoreError
from softlabels.errors import StorageFullError
from softlabels.records.receipts import Receipt, commit_shard, current_receipt, latest_receipt_keys, read_receipt
from softlabels.storage.bucket import ObjectStorage
from softlabels.storage.local import LocalStorage
from softlabels.storage.opening import open_storage
from softlabels.storage.protocol import Storage


def receipt(digest: str, size: int) -> Receipt:
    return Receipt(
        shard=3,
        fingerprint="f" * 64,
        digest=digest,
        size=size,
        rows=1,
        quarantined=(),
        audio={},
        environment={},
        numerics_class="9" * 64,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty storage of each kind."""
    if request.param == "folder":
        return LocalStorage(tmp_path / "some where" / "store")
    server = request.getfixturevalue("server")
    use_buckets(monkeypatch, server, patience_s=5)
    return ObjectStorage(f"s3://{server.make_bucket()}/some where/store")


class TestEveryStorage:
    """What `Storage` promises, of a folder and of a bucket alike."""

    def test_an_empty_one_is_good_and_holds_nothing(self, storage: Storage) -> None:
        storage.check()
        assert storage.names() == set()
        assert storage.list("a") == {}
        assert storage.sweep("a", set(), older_than_s=-5) == 0
        assert not storage.exists("a/x")
        for missing in (storage.get, lambda key: list(storage.get_many([key]))):
            with pytest.raises(FileNotFoundError):
                missing("a/x")

    def test_what_is_put_is_got_listed_and_found(self, storage: Storage) -> None:
        for key, data in {"a/y": b"22", "a/x": b"1", "a/b/deeper": b"1", "top.json": b"{}"}.items():
            storage.put(key, data)
        storage.put("a/x", b"333")
        assert storage.get("a/x") == b"333"
        assert list(storage.get_many(["a/y", "a/x", "a/y"])) == [b"22", b"333", b"22"]
        assert list(storage.list("a").items()) == [("a/x", 3), ("a/y", 2)]
        assert storage.names() == {"a", "top.json"}
        assert storage.exists("a/y")
        assert not storage.exists("a/z")
        assert not storage.exists("a"), "a folder is nothing under a key"

    def test_an_unfinished_write_is_not_seen(self, storage: Storage) -> None:
        storage.put("a/x", b"1")
        storage.put("a/.tmp-123", b"half")
        storage.put(".tmp-123", b"half")
        assert storage.list("a") == {"a/x": 1}
        assert storage.names() == {"a"}

    def test_put_if_absent_writes_once(self, storage: Storage) -> None:
        assert storage.put_if_absent("k", b"first")
        assert not storage.put_if_absent("k", b"second")
        assert not storage.put_if_absent("k", b"first"), "equal bytes of somebody else are not ours"
        assert storage.get("k") == b"first"

    def test_put_if_absent_is_won_by_one_of_many(self, storage: Storage) -> None:
        start = threading.Barrier(8)

        def race(i: int) -> bool:
            start.wait()
            return storage.put_if_absent("a/x", bytes([i]))

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, range(8)))
        assert sum(won) == 1
        assert storage.get("a/x") == bytes([won.index(True)])

    def test_a_replaced_object_is_the_old_or_the_new_one(self, storage: Storage) -> None:
        old, new = b"o" * 100_000, b"n" * 100_000
        storage.put("k", old)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(lambda: [storage.put("k", new if n % 2 else old) for n in range(10)])
            while not writing.done():
                assert storage.get("k") in (old, new)
            writing.result()

    def test_put_if_changed_writes_only_what_is_new(self, storage: Storage, monkeypatch) -> None:
        real, written = type(storage).put, []
        monkeypatch.setattr(type(storage), "put", lambda self, *args: (written.append(args), real(self, *args)))
        for data in (b"1", b"1", b"2"):
            storage.put_if_changed("k", data)
        assert written == [("k", b"1"), ("k", b"2")]
        assert storage.get("k") == b"2"

    def test_content_is_got_by_its_name(self, storage: Storage) -> None:
        storage.put("shards/x", b"22")
        for _ in range(2):
            assert storage.get_content("shards/x", hashlib.sha256(b"22").hexdigest(), 2) == b"22"

    def test_only_what_is_old_and_unknown_is_swept(self, storage: Storage) -> None:
        named, orphan = (f"shards/00000-{digit * 12}.parquet" for digit in "ab")
        for key in (named, orphan, "shards/notes.txt", "elsewhere"):
            storage.put(key, b"1")
        assert storage.sweep("shards", {named}, older_than_s=3600) == 0
        assert storage.sweep("shards", {named}, older_than_s=-5) == 1
        assert list(storage.list("shards")) == [named, "shards/notes.txt"]  # the second has no name of ours
        assert storage.exists("elsewhere")

    @pytest.mark.parametrize("off_s", [2 * 86_400, -2 * 86_400])
    def test_the_clock_of_this_machine_sweeps_nothing(self, storage: Storage, monkeypatch, off_s: int) -> None:
        class Off(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
                return super().now(tz) + datetime.timedelta(seconds=off_s)

        storage.put("shards/00000-0123456789ab.parquet", b"1")
        ours = SimpleNamespace(datetime=Off, timedelta=datetime.timedelta, UTC=datetime.UTC)
        monkeypatch.setattr("softlabels.storage.bucket.datetime", ours)
        monkeypatch.setattr(time, "time", lambda now=time.time: now() + off_s)
        assert storage.sweep("shards", set(), older_than_s=86_400) == 0
        assert storage.sweep("shards", set(), older_than_s=-5) == 1

    def test_it_travels_in_a_pickle_and_by_its_name(self, storage: Storage) -> None:
        storage.put("k", b"1")
        assert pickle.loads(pickle.dumps(storage)).get("k") == b"1"
        assert open_storage(str(storage)).get("k") == b"1"


def test_the_first_receipt_commits_and_stands(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    one, two = receipt("1" * 64, 3), receipt("2" * 64, 3)
    assert commit_shard(storage, b"one", one) == ("committed", one)
    assert commit_shard(storage, b"one", one) == ("equal", one)
    assert commit_shard(storage, b"two", two) == ("different", one)
    assert commit_shard(storage, b"two", two, replacing="another receipt") == ("different", one)
    current = read_receipt(storage, latest_receipt_keys(storage)[3])
    assert current == receipt("1" * 64, 3)
    assert storage.get(current.file) == b"one"


def test_a_receipt_may_be_replaced_by_who_read_it(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    one, two, three = (receipt(digit * 64, 3) for digit in "123")
    commit_shard(storage, b"one", one)
    assert commit_shard(storage, b"two", two, replacing=one.identity) == ("committed", two)
    assert commit_shard(storage, b"333", three, replacing=one.identity) == ("different", two)
    assert current_receipt(storage, 3) == two


def test_what_killed_writers_left_behind_is_swept_when_it_is_old(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    named, orphan, young = (f"00000-{digit * 12}.parquet" for digit in "abc")
    unfinished = f".tmp-{'9' * 16}.parquet"
    for name in (named, orphan, young):
        storage.put(f"shards/{name}", b"1")
    (tmp_path / "shards" / unfinished).write_bytes(b"half")
    for name in (named, orphan, unfinished):
        os.utime(tmp_path / "shards" / name, (0, 0))
    assert storage.sweep("shards", {f"shards/{named}"}, older_than_s=3600) == 2
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [named, young]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_to_be_full_and_leaves_no_trace(tmp_path, monkeypatch, number: int) -> None:
    storage = LocalStorage(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match="No space left on device while writing a/x; make room"):
        storage.put("a/x", b"1")
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_no_temporary_file_is_left(tmp_path: Path, write: str) -> None:
    storage = LocalStorage(tmp_path)
    for data in (b"1", b"2"):
        getattr(storage, write)("a/x", data)
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_the_highest_generation_counts(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    for generation in (0, 2, 10, 9):
        storage.put(f"receipts/00003.g{generation}.json", b"{}")
    storage.put("receipts/notes.txt", b"")
    assert latest_receipt_keys(storage) == {3: "receipts/00003.g10.json"}


def test_a_damaged_receipt_is_named(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("receipts/00003.g0.json", b'{"shard": 3')
    with pytest.raises(StoreError, match=r"receipts/00003\.g0\.json is damaged.*delete it and run"):
        read_receipt(storage, "receipts/00003.g0.json")


def test_a_write_that_is_going_on_is_never_swept(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "claims").mkdir()
    young = f".tmp-{'0' * 16}"
    for name in (young, "shard-00001.c0"):
        (tmp_path / "claims" / name).touch()
    assert storage.sweep("claims", set(), older_than_s=-5) == 1
    assert [path.name for path in (tmp_path / "claims").iterdir()] == [young]


def test_two_may_sweep_and_list_at_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for _ in range(20):
        for number in range(50):
            storage.put_if_absent(f"claims/shard-{number:05d}.c0", b"")
        with ThreadPoolExecutor(4) as pool:
            sweeps = [pool.submit(storage.sweep, "claims", set(), older_than_s=-5) for _ in range(3)]
            pool.submit(storage.list, "claims").result()
            assert sum(sweep.result() for sweep in sweeps) == 50
