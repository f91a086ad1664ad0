import threading

import pytest

from softlabels import StoreError
from softlabels.receipts import Receipt, commit_shard, latest_receipt_keys, read_receipt
from softlabels.storage import LocalStorage


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
    assert commit_shard(storage, b"one", receipt("1" * 64, 3)) == "committed"
    assert commit_shard(storage, b"one", receipt("1" * 64, 3)) == "equal"
    assert commit_shard(storage, b"two", receipt("2" * 64, 3)) == "different"
    standing = read_receipt(storage, latest_receipt_keys(storage)[3])
    assert standing == receipt("1" * 64, 3)
    assert storage.get(standing.file) == b"one"


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
