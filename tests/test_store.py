import json

import numpy as np
import pytest

import softlabels
from softlabels import StoreError


def test_a_store_says_what_it_is(store) -> None:
    assert len(store) == 14
    assert store.activation == "sigmoid"
    assert store.classes.names[1] == "Bus bus_Beta"
    assert store.spec.window.window_samples == 800


def test_take_gives_rows_in_the_order_of_the_keys(store) -> None:
    frame = store.to_pandas().set_index(["clip_id", "window_index"])
    keys = [("c3", 2), ("c0", 0), ("c5", 1), ("c3", 2)]
    expected = np.stack([frame.loc[key].probabilities for key in keys])
    np.testing.assert_array_equal(store.take(keys), expected)


@pytest.mark.parametrize("key", [("c9", 0), ("c0", 3), ("c0", -1)])
def test_take_refuses_a_window_without_a_label(store, key) -> None:
    with pytest.raises(StoreError, match="has no label for clip"):
        store.take([key])


def test_read_gives_every_row_once_shard_by_shard(store) -> None:
    shards = list(store.read())
    assert [len(rows) for rows in shards] == [4, 3, 4, 3]
    assert shards[0].probabilities.dtype == np.float32


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_per_clip_pools_the_windows_of_a_clip(store, pool: str) -> None:
    frame = store.to_pandas()
    pooled = store.per_clip(pool=pool)
    assert list(pooled.columns) == list(store.classes)
    for clip_id, rows in frame.groupby("clip_id"):
        expected = getattr(np.stack(rows.probabilities.to_list()).astype(np.float64), pool)(axis=0)
        np.testing.assert_array_equal(pooled.loc[clip_id].to_numpy(), expected.astype(np.float32))


def test_per_clip_refuses_another_pool(store) -> None:
    with pytest.raises(ValueError, match="expected 'max' or 'mean', got 'median'"):
        store.per_clip(pool="median")


def test_a_flipped_bit_in_a_shard_is_found_when_it_is_read(store) -> None:
    path = store.storage.path(store.receipts[1].file)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        StoreError, match=r"shard 1 of .*digest mismatch: receipt says.*`softlabels regenerate .* --shard 1`"
    ):
        list(store.read())


def test_a_shard_without_a_receipt_is_never_read(store) -> None:
    (store.storage.root / "receipts" / "00002.g0.json").unlink()
    reopened = softlabels.open(store.storage.root)
    assert len(reopened) == 10
    assert reopened.missing_shards() == [2]
    with pytest.raises(StoreError, match="shard 2 of .* is not committed"):
        reopened.read_shard(2)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("store.json", None, "no store at"),
        ("store.json", "{", "store.json is damaged"),
        ("classes.txt", "a\nb\nc\n", "classes.txt was changed"),
        ("classes.txt", None, "classes.txt cannot be read"),
    ],
)
def test_a_damaged_store_is_a_clear_error(store, name: str, content: str | None, complaint: str) -> None:
    path = store.storage.root / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(StoreError, match=complaint):
        softlabels.open(store.storage.root)


def test_an_edited_spec_is_noticed(store) -> None:
    path = store.storage.root / "store.json"
    header = json.loads(path.read_text())
    header["spec"]["batch_size"] = 7
    path.write_text(json.dumps(header))
    with pytest.raises(StoreError, match=r"store\.json was edited"):
        softlabels.open(path.parent)


def test_two_shards_swapped_on_disk_are_noticed(store) -> None:
    a, b = (store.storage.path(store.receipts[i].file) for i in (0, 2))
    a_bytes, b_bytes = a.read_bytes(), b.read_bytes()
    a.write_bytes(b_bytes)
    b.write_bytes(a_bytes)
    with pytest.raises(StoreError, match="digest mismatch"):
        store.read_shard(0)
