import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from softlabels import StoreError
from softlabels.errors import StorageFullError
from softlabels.storage.local import LocalStorage
from softlabels.store.receipts import Receipt, commit_shard, latest_receipt_keys, read_receipt, standing_receipt


def receipt(digest: str, size: int) -> Receipt:
    return Receipt(
        shard=3,
        fingerprint="f",
        digest=digest,
        size=size,
        rows=1,
        quarantined=(),
        audio={},
        environment={},
        numerics_class="n",
    )


def test_what_was_put_can_be_got_and_listed(tmp_path) -> None:
    storage = LocalStorage(tmp_path / "store")
    assert storage.list("a") == {}
    storage.put("a/y", b"22")
    storage.put("a/x", b"1")
    storage.put("a/x", b"333")
    assert storage.list("a") == {"a/x": 3, "a/y": 2}
    assert storage.get("a/x") == b"333"
    assert storage.exists("a/y")
    with pytest.raises(FileNotFoundError):
        storage.get("a/z")


def test_put_if_absent_is_won_by_one_of_many(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    start, won = threading.Barrier(8), []

    def race(i: int) -> None:
        start.wait()
        if storage.put_if_absent("a/x", bytes([i])):
            won.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.get("a/x") == bytes(won)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"], "no temporary file is left"


def test_an_unfinished_write_is_not_listed(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a/x", b"1")
    (tmp_path / "a" / ".tmp-123").write_bytes(b"half")
    assert storage.list("a") == {"a/x": 1}


def test_the_first_receipt_commits_and_stands(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    one, two = receipt("1" * 64, 3), receipt("2" * 64, 3)
    assert commit_shard(storage, b"one", one) == ("committed", one)
    assert commit_shard(storage, b"one", one) == ("equal", one)
    assert commit_shard(storage, b"two", two) == ("different", one)
    assert commit_shard(storage, b"two", two, replacing="another receipt") == ("different", one)
    standing = read_receipt(storage, latest_receipt_keys(storage)[3])
    assert standing == receipt("1" * 64, 3)
    assert storage.get(standing.file) == b"one"


def test_a_receipt_may_be_replaced_by_who_read_it(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    one, two, three = (receipt(digit * 64, 3) for digit in "123")
    commit_shard(storage, b"one", one)
    assert commit_shard(storage, b"two", two, replacing=one.identity) == ("committed", two)
    assert commit_shard(storage, b"333", three, replacing=one.identity) == ("different", two)
    assert standing_receipt(storage, 3) == two


def test_what_killed_writers_left_behind_is_swept_when_it_is_old(tmp_path) -> None:
    storage = LocalStorage(tmp_path)
    for name in ("named", "orphan", "young"):
        storage.put(f"shards/{name}", b"1")
    (tmp_path / "shards" / ".tmp-9").write_bytes(b"half")
    for name in ("named", "orphan", ".tmp-9"):
        os.utime(tmp_path / "shards" / name, (0, 0))
    assert storage.sweep("shards", {"shards/named"}, older_than_s=3600) == 2
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["named", "young"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_to_be_full_and_leaves_no_trace(tmp_path, monkeypatch, number: int) -> None:
    storage = LocalStorage(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match="No space left on device while writing a/x; make room"):
        storage.put("a/x", b"1")
    assert list((tmp_path / "a").iterdir()) == []


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
    for name in (".tmp-young", "done"):
        (tmp_path / "claims" / name).touch()
    assert storage.sweep("claims", set(), older_than_s=-5) == 1
    assert [path.name for path in (tmp_path / "claims").iterdir()] == [".tmp-young"]


def test_two_may_sweep_and_list_at_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for _ in range(20):
        for number in range(50):
            storage.put_if_absent(f"claims/{number}", b"")
        with ThreadPoolExecutor(4) as pool:
            sweeps = [pool.submit(storage.sweep, "claims", set(), older_than_s=-5) for _ in range(3)]
            pool.submit(storage.list, "claims").result()
            assert sum(sweep.result() for sweep in sweeps) == 50
