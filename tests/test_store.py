import dataclasses
import hashlib
import json

import numpy as np
import pytest
from conftest import REPOSITORY

import softlabels
from pipeline.checking.verify import verify
from softlabels import StoreError
from softlabels.records.receipts import ReceiptHead
from softlabels.storage.local import LocalStorage


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


@pytest.mark.parametrize("window_index", [1.0, 0.3, "0", None, np.float32(2)])
def test_take_refuses_a_key_that_is_a_time_or_anything_but_a_whole_number(store, window_index) -> None:
    with pytest.raises(ValueError, match=r"expected \(clip_id, window_index\) with a whole number .*a time is no key"):
        store.take([("c0", 0), ("c0", window_index)])


def test_take_names_the_first_key_without_a_label_whatever_stands_around_it(store) -> None:
    with pytest.raises(StoreError, match="no label for clip 'c5', window 2"):
        store.take([("c0", np.int64(2)), ("c5", 2), ("c9", 0), ("c3", 1)])


def test_take_refuses_a_planned_window_that_is_not_committed(store) -> None:
    (store.storage.root / "receipts" / "00002.g0.json").unlink()
    with pytest.raises(StoreError, match="no label for clip 'c3', window 1"):
        softlabels.open(store.storage.root).take([("c0", 0), ("c3", 1)])


def test_take_of_nothing_is_empty(store) -> None:
    assert store.take([]).shape == (0, 3)


def remove_one(folder: str):
    return lambda root: next(iter(sorted((root / folder).iterdir()))).unlink()


CHANGES = {
    "a receipt more": lambda root: (root / "receipts" / "00000.g1.json").write_bytes(b"{}"),
    "a plan more": lambda root: (root / "plan" / "0002.parquet").write_bytes(b""),
    "a shard truncated": lambda root: next((root / "shards").iterdir()).write_bytes(b"PAR1"),
    "a shard lost": remove_one("shards"),
    "a receipt lost": remove_one("receipts"),
    "a plan lost": remove_one("plan"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_state_is_another_one_after(store, change: str) -> None:
    before = store.state()
    CHANGES[change](store.storage.root)
    assert store.state() != before


def test_the_state_is_the_same_until_something_is_committed_and_no_file_is_read_for_it(store, monkeypatch) -> None:
    before = store.state()
    (store.storage.root / "joins").mkdir()
    (store.storage.root / "joins" / "x.npy").write_bytes(b"x")
    opened = softlabels.open(store.storage.root)
    monkeypatch.setattr(LocalStorage, "get", lambda self, key: pytest.fail(f"{key} was read"))
    assert opened.state() == before


def test_an_open_store_holds_no_digest_of_a_clips_audio(store) -> None:
    assert not hasattr(store.receipts[0], "audio")
    full = store.receipt(0)
    assert list(full.audio) == ["c0", "c1"]
    head = {f.name: getattr(full, f.name) for f in dataclasses.fields(ReceiptHead)}
    assert ReceiptHead(**head) == store.receipts[0]


def test_a_receipt_that_is_gone_is_a_store_error(store) -> None:
    assert store.receipts
    (store.storage.root / "receipts" / "00002.g0.json").unlink()
    with pytest.raises(StoreError, match="00002.g0.json is gone; open the store again"):
        store.receipt(2)


def test_success_says_the_digest_of_the_receipts_bytes_in_the_order_of_the_shards(store) -> None:
    files = sorted((store.storage.root / "receipts").iterdir())
    success = json.loads(store.storage.get("_SUCCESS-0001.json"))
    assert success["receipts"] == hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    assert (success["shards"], success["rows"]) == (4, 14)


@pytest.mark.parametrize("field", ["audio", "environment", "numerics_class", "rows"])
def test_a_receipt_without_one_of_its_fields_is_damaged(store, field: str) -> None:
    path = store.storage.root / "receipts" / "00001.g0.json"
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="00001.g0.json is damaged: expected .*delete it and run"):
        len(softlabels.open(store.storage.root))


def test_a_shard_is_read_without_converting_the_index(store, monkeypatch) -> None:
    """np.searchsorted with another dtype makes a copy of all of the column: of 10 M windows for every shard."""
    index, searched = store.index, []
    monkeypatch.setattr(np, "searchsorted", lambda a, v, *rest: searched.append((a.dtype, v.dtype)) or np.array([0, 4]))
    store.read_shard(0)
    assert index.shard.dtype == np.int32
    assert searched == [(np.int32, np.int32)]


def test_a_synthetic_store_verifies_and_its_teacher_hears_the_annotated_class(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "benchmarks")
    from synthetic_store import write_store

    root = write_store(tmp_path, clips=60, windows=3, classes=2, shard_windows=10, jobs=1)
    made = softlabels.open(root)
    assert (len(made), made.planned_shards, made.missing_shards(), made.is_closed()) == (180, 20, [], True)
    assert verify(made, jobs=1).good
    clips = softlabels.read_manifest(tmp_path / "data_manifest.csv")
    assert sum(clip.labels is not None for clip in clips) == 30
    assert {clip.split for clip in clips} == {"train", "test"}
    annotated = [clip for clip in clips if clip.labels]
    taken = made.take([(clip.clip_id, 0) for clip in annotated])
    labelled = np.array([made.classes.index(clip.labels[0]) for clip in annotated])
    assert taken[np.arange(30), labelled].mean() > 3 * taken[np.arange(30), 1 - labelled].mean()
