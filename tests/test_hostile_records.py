"""A store from a stranger: every number, digest and name is held to its form, and counted before it is decoded."""

import dataclasses
import hashlib
import io
import json
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Corpus, label

import pipeline
import softlabels
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from pipeline.exports import dataset_folder
from pipeline.planning import prepare as preparing
from pipeline.planning.prepare import LabelOptions, Preparation, prepare, read_clips, write_plan
from pipeline.teachers.teacher import TeacherChoice
from softlabels import StoreError
from softlabels.digests import sha256_of, sha256_of_bytes
from softlabels.records import shard as shard_module
from softlabels.records.plan_file import SCHEMA, decode_plan, encode_plan
from softlabels.records.receipts import commit_generation, commit_shard
from softlabels.records.shard import encode_shard
from softlabels.storage.local import LocalStorage
from softlabels.store.reader import StoreReader

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, 14 windows in four shards, labelled once; tests change copies."""
    corpus = Corpus(tmp_path_factory.mktemp("hostile"))
    lines = ["clip_id,path"]
    for i, seconds in enumerate([0.3, 0.1, 0.25, 0.4, 0.05, 0.2]):
        corpus.write_audio(f"c{i}.wav", seconds, seed=i)
        lines.append(f"c{i},c{i}.wav")
    corpus.write_manifest("\n".join(lines) + "\n")
    return label(corpus).storage.root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


QUARANTINED = {"clip_id": "c0", "first_window": 0, "windows": 1, "reason": "empty", "detail": ""}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"digest": "../../../../tmp/x"}, "digest: expected 64 hexadecimal digits"),
        ({"digest": "A" * 64}, "digest: expected 64"),
        ({"digest": "a" * 63}, "digest: expected 64"),
        ({"digest": "a" * 64 + "\n"}, "digest: expected 64"),
        ({"numerics_class": "x/y"}, "numerics_class: expected 64"),
        ({"fingerprint": ""}, "fingerprint: expected 64"),
        ({"plan": "0001"}, "plan: expected 64"),
        ({"size": -1}, "size: expected 0 to"),
        ({"size": True}, "expected int as size"),
        ({"rows": 1 << 40}, "rows: expected 0 to"),
        ({"shard": 1}, "it is the receipt of shard 1"),
        ({"more": 1}, "expected the fields"),
        ({"quarantined": [{**QUARANTINED, "reason": "because"}]}, "expected one of the reasons"),
        ({"quarantined": [{**QUARANTINED, "windows": 0}]}, "expected 1 or more"),
        ({"quarantined": [{**QUARANTINED, "first_window": -3}]}, "expected 1 or more"),
        ({"quarantined": [{**QUARANTINED, "windows": 1 << 40}]}, "expected 1 or more"),
        ({"quarantined": [{**QUARANTINED, "windows": 1.5}]}, "expected 1 or more"),
        ({"quarantined": [{**QUARANTINED, "clip_id": 7}]}, "as text"),
        ({"quarantined": [["c0", 1]]}, "mapping"),
    ],
)
def test_a_receipt_of_another_form_is_damaged(folder: Path, changes: dict, complaint: str) -> None:
    change_json(folder / "receipts" / "00000.g0.json", **changes)
    with pytest.raises(StoreError, match=rf"receipts/00000\.g0\.json is damaged: .*{complaint}"):
        len(softlabels.open(folder))


@pytest.mark.parametrize("audio", [{"c0": {"file": "x", "pcm": "y"}}, {"c0": 3}, {"c0": {"file": "a" * 64}}])
def test_audio_digests_of_another_form_are_damaged(folder: Path, audio: dict) -> None:
    change_json(folder / "receipts" / "00000.g0.json", audio=audio)
    with pytest.raises(StoreError, match="damaged"):
        softlabels.open(folder).receipt(0)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"[1]", b"\xff\xfe", b"7" * 5000, b""])
@pytest.mark.parametrize("name", ["store.json", "receipts/00000.g0.json"])
def test_json_that_is_no_object_is_damaged(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        len(softlabels.open(folder))


def change_spec(folder: Path, **changes: object) -> None:
    """Edit store.json as somebody does who carries the fingerprint through."""
    header = json.loads((folder / "store.json").read_text())
    spec = {**header["spec"], **changes}
    (folder / "store.json").write_text(json.dumps({**header, "spec": spec, "fingerprint": sha256_of(spec)}))


WINDOW = {"rate_hz": 8000, "window_samples": 800, "hop_samples": 800}


@pytest.mark.parametrize(
    "changes",
    [
        {"window": {**WINDOW, "rate_hz": 0}},
        {"window": {**WINDOW, "rate_hz": "8000"}},
        {"window": {**WINDOW, "rate_hz": 1 << 40}},
        {"window": {**WINDOW, "window_samples": 1 << 60}},
        {"window": {**WINDOW, "hop_samples": 0.5}},
        {"window": [8000, 800, 800]},
        {"batch_size": 1 << 30},
        {"batch_size": 4.0},
        {"shard_windows": 1 << 40},
        {"shard_windows": True},
        {"significand_bits": 0},
        {"significand_bits": 99},
        {"portable": 1},
        {"min_probability": "0"},
        {"teacher": ["stand-in"]},
        {"teacher": "x" * 20_000},
        {"class_digest": "c"},
        {"teacher_class_digest": "../x"},
        {"teacher_class_digest": "a" * 64, "components": 3, "component_digest": "../../../etc/passwd"},
        {"teacher_class_digest": "a" * 64, "components": 1 << 20, "component_digest": "a" * 64},
        {"embedding": -5},
        {"embedding": 1 << 20},
        {"embedding": True},
        {"embedding": 5.0},
        {"embedding": "../x"},
    ],
)
def test_a_spec_of_another_form_is_refused(folder: Path, changes: dict) -> None:
    change_spec(folder, **changes)
    with pytest.raises(StoreError, match="expected"):
        softlabels.open(folder)


@pytest.mark.parametrize(("name", "size"), [("store.json", 2 << 20), ("classes.txt", 33 << 20)])
def test_a_text_that_is_too_large_is_not_read(folder: Path, name: str, size: int) -> None:
    os.truncate(folder / name, size)
    with pytest.raises(StoreError, match=rf"{name}.* has .* bytes, expected at most"):
        softlabels.open(folder)


def change_plan(folder: Path, **columns: Callable[[list], list] | list) -> None:
    path = folder / "plan" / "0001.parquet"
    table = pq.read_table(path)
    for name, change in columns.items():
        values = change(table[name].to_pylist()) if callable(change) else change
        table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), pa.array(values))
    pq.write_table(table, path)


def one(value: object, row: int = 2) -> Callable[[list], list]:
    return lambda values: [*values[:row], value, *values[row + 1 :]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("windows", 0),
        ("windows", -1),
        ("windows", 5),
        ("windows", 1 << 62),
        ("shard", 7),
        ("shard", -1),
        ("shard", 0),
        ("first_window", 1),
        ("first_window", -1),
        ("first_window", 1 << 40),
        ("start", -1),
        ("start", 1 << 50),
        ("end", 1 << 50),
        ("frames", 1 << 62),
        ("frames", 5),
        ("rate_hz", 0),
        ("rate_hz", -8000),
        ("rate_hz", 1 << 40),
        ("channels", 0),
        ("size", -1),
        ("clip_id", ""),
        ("reason", "because"),
        ("sha256", "../../../../tmp/x"),
        ("sha256", "A" * 64),
        ("path", "c4.wav" * 20_000),
    ],
)
def test_a_plan_that_no_planning_writes_is_damaged(folder: Path, name: str, value: object) -> None:
    change_plan(folder, **{name: one(value)})
    with pytest.raises(StoreError, match=r"plan/0001\.parquet is damaged: .*expected"):
        _ = softlabels.open(folder).plans


def test_plans_with_a_gap_are_refused(folder: Path) -> None:
    (folder / "plan" / "0001.parquet").rename(folder / "plan" / "0002.parquet")
    with pytest.raises(StoreError, match=r"0001\.parquet is gone"):
        _ = softlabels.open(folder).plans


def repeated(rows: int, **values: object) -> bytes:
    """A plan of equal rows."""
    columns = {f.name: 1 if f.type == pa.int64() else "" for f in SCHEMA} | values
    zeros = pa.repeat(pa.scalar(0, pa.int32()), rows)
    arrays = [
        pa.DictionaryArray.from_arrays(zeros, [columns[f.name]]).cast(f.type)
        if f.type == pa.int64()
        else pa.DictionaryArray.from_arrays(zeros, [columns[f.name]])
        for f in SCHEMA
    ]
    schema = pa.schema([f.with_type(array.type) for f, array in zip(SCHEMA, arrays, strict=True)])
    return parquet_bytes(pa.Table.from_arrays(arrays, schema=schema), store_schema=False)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (lambda: repeated(200_000), "expected at most .* rows, got 200000"),
        (lambda: repeated(2000, path="x" * (1 << 19)), "unpacks to more than"),
        (lambda: repeated(2000, detail="é" * (1 << 18)), "unpacks to more than"),
        (lambda: parquet_bytes(pa.table({"a": pa.repeat(1, 300_000)})), "expected the columns"),
        (lambda: b"PAR1" + b"\x15\xff" * 500 + b"\xff\xff\xff\x7fPAR1", "expected a Parquet file"),
        (lambda: repeated(3)[:-900] + repeated(3)[-8:], "expected a Parquet file"),
    ],
)
def test_a_plan_is_counted_before_it_is_decoded(data: Callable[[], bytes], complaint: str) -> None:
    held = data()
    assert len(held) < 1 << 20
    before = pa.total_allocated_bytes()
    with pytest.raises(StoreError, match=complaint):
        decode_plan(held)
    assert pa.total_allocated_bytes() - before < 1 << 20


def parquet_bytes(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def replace_shard(folder: Path, shard: int, data: bytes) -> None:
    """Let other bytes be the shard, digests carried through."""
    store = StoreReader(LocalStorage(folder))
    receipt = dataclasses.replace(store.receipt(shard), digest=sha256_of_bytes(data), size=len(data))
    commit_generation(store.storage, data, receipt)


@pytest.mark.parametrize("rows", [0, 3, 5, 300_000])
def test_a_shard_of_other_rows_is_refused_before_it_is_decoded(folder: Path, rows: int) -> None:
    store = softlabels.open(folder)
    table = pq.read_table(store.storage.path(store.receipts[0].file))
    replace_shard(folder, 0, parquet_bytes(table.take(pa.array(np.zeros(rows, np.int64)))))
    changed = softlabels.open(folder)
    assert len(changed.index) == 14
    with (
        mock.patch.object(pq.ParquetFile, "read", side_effect=AssertionError("decoded")),
        pytest.raises(StoreError, match=f"expected 4 windows as planned, in order, got {rows}"),
    ):
        changed.read_shard(0)


def test_a_shard_of_long_names_is_refused_before_it_is_decoded(folder: Path) -> None:
    store = softlabels.open(folder)
    table = pq.read_table(store.storage.path(store.receipts[0].file))
    names = pa.array(["x" * (1 << 20)] * len(table), pa.string())
    long = table.set_column(0, table.schema.field("clip_id"), names)
    replace_shard(folder, 0, parquet_bytes(long))
    with pytest.raises(StoreError, match="bytes of text, expected at most"):
        softlabels.open(folder).read_shard(0)


def grown(data: bytes, unpacked: int) -> bytes:
    """The same file; the header of its first page says so many bytes, its footer what it said before."""
    assert data[4:6] == b"\x15\x04" or data[4:6] == b"\x15\x00"  # field 1, i32: a page of a dictionary, or of data
    assert data[6] == 0x15  # field 2, i32
    end = next(i for i in range(7, 12) if data[i] < 128) + 1
    zigzag, digits = unpacked << 1, bytearray()
    for _ in range(end - 7):
        digits.append(zigzag & 127 | 128)
        zigzag >>= 7
    digits[-1] &= 127
    return data[:7] + bytes(digits) + data[end:]


@pytest.mark.parametrize("unpacked", [49, 60, 63])
def test_a_page_that_says_more_than_its_footer_is_refused_before_it_is_decoded(folder: Path, unpacked: int) -> None:
    path = folder / "plan" / "0001.parquet"
    path.write_bytes(grown(parquet_bytes(pq.read_table(path), compression="none", use_dictionary=False), unpacked))
    with (
        mock.patch.object(pq.ParquetFile, "read", side_effect=AssertionError("decoded")),
        pytest.raises(StoreError, match=r"pages of column shard have 6 values in [\d,]+ bytes, its footer says 6 in"),
    ):
        decode_plan(path.read_bytes())


@pytest.mark.parametrize("end", [5, 8, 20, 300])
def test_pages_that_are_none_are_named(end: int) -> None:
    data = repeated(3)
    with pytest.raises(StoreError, match="expected a Parquet file"):
        decode_plan(data[:4] + b"\xff" * end + data[4 + end :])


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_pages_as_we_write_them_are_held(corpus: Corpus, layout: str) -> None:
    store = label(corpus, layout=layout, keep_classes=None)
    assert verify(store, jobs=1, untrusted=True).problems == ()
    assert all(len(store.read_shard(shard, pages=True)) for shard in store.receipts)


def test_quarantined_windows_that_a_clip_has_not_are_refused(folder: Path) -> None:
    entry = {**QUARANTINED, "first_window": 2, "windows": 3}
    change_json(folder / "receipts" / "00000.g0.json", quarantined=[entry])
    with pytest.raises(StoreError, match="quarantines windows 2 to 4 of clip 'c0', which has 3"):
        len(softlabels.open(folder).index)


def halve(values: list) -> list:
    return [value // 2 for value in values]


PLAN_EDITS = {
    "half the rate": {"rate_hz": halve},
    "another path": {"path": lambda paths: paths[::-1]},
    "another stretch": {"start": one(1)},
    "other channels": {"channels": one(2)},
    "a reason": {"reason": one("empty", 0)},
    "another digest": {"sha256": one("0" * 64)},
}


@pytest.mark.parametrize("edit", PLAN_EDITS)
def test_an_edited_plan_is_found_by_all_who_use_it(folder: Path, edit: str, made: Path) -> None:
    change_plan(folder, **PLAN_EDITS[edit])
    store = softlabels.open(folder)
    with pytest.raises(StoreError, match=r"plan/0001\.parquet was edited"):
        store.read_shard(0)
    with pytest.raises(StoreError, match=r"plan/0001\.parquet was edited"):
        store.join(made.parent / "data_manifest.csv", cache_dir=folder.parent / "cache")
    assert not verify(softlabels.open(folder), jobs=1).good


@pytest.mark.parametrize("edit", ["half the rate", "another stretch", "another digest"])
def test_an_edited_plan_of_an_older_store_is_found_by_verify(folder: Path, edit: str) -> None:
    strip(folder)
    change_plan(folder, **PLAN_EDITS[edit])
    assert not verify(softlabels.open(folder), jobs=1).good


def strip(folder: Path) -> None:
    """Make of a store what an older softlabels would have written."""
    for path in (folder / "receipts").iterdir():
        content = json.loads(path.read_text())
        del content["plan"]
        path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n")
    path = folder / "plan" / "0001.parquet"
    path.write_bytes(encode_plan(decode_plan(path.read_bytes())))
    (folder / "_SUCCESS-0001.json").write_bytes(softlabels.open(folder).success_bytes(1, with_plan=False))


def test_the_plan_of_another_store_is_refused(folder: Path) -> None:
    path = folder / "plan" / "0001.parquet"
    path.write_bytes(encode_plan(decode_plan(path.read_bytes()), "f" * 64))
    with pytest.raises(StoreError, match="the plan of another store: of spec 'ffff"):
        _ = softlabels.open(folder).plans


@pytest.mark.parametrize("name", ["start_s", "end_s", "pad_fraction"])
@pytest.mark.parametrize("row", [0, 3])
def test_verify_computes_every_column_again(folder: Path, name: str, row: int) -> None:
    store = softlabels.open(folder)
    rows = store.read_shard(0)
    values = rows.columns()[name].copy()
    values[row] += 0.5
    data = encode_shard(dataclasses.replace(rows, **{name: values}), store.spec, shard=0)
    replace_shard(folder, 0, data)
    (problem,) = (check.problem for check in verify(softlabels.open(folder), jobs=1).shards if check.problem)
    assert f"{name} of ('c{0 if row < 3 else 1}'" in problem


def test_verify_finds_probabilities_that_no_encoder_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = softlabels.open(folder)
    rows = store.read_shard(0)
    monkeypatch.setattr(shard_module, "round_probabilities", lambda p: p)
    data = encode_shard(
        dataclasses.replace(rows, probabilities=rows.probabilities * np.float32(0.3)), store.spec, shard=0
    )
    replace_shard(folder, 0, data)
    assert "with 8 significand bits" in verify(softlabels.open(folder), jobs=1).shards[0].problem


def test_an_older_store_opens_verifies_and_grows(tmp_path: Path) -> None:
    for path in RECORDED.glob("c*.flac"):
        shutil.copy(path, tmp_path)
    store = Path(shutil.copytree(RECORDED / "store", tmp_path / "store"))
    assert "plan" not in json.loads((store / "receipts" / "00000.g0.json").read_text())
    assert verify(softlabels.open(store), jobs=1).problems == ()
    before = softlabels.open(store)
    digests = {shard: receipt.digest for shard, receipt in before.receipts.items()}
    lines = (RECORDED / "data_manifest.csv").read_text() + "c6,c0.flac,,train,,0.2\n"
    (tmp_path / "data_manifest.csv").write_text(lines)
    options = pipeline.RunOptions(backend="sequential")
    pipeline.run(tmp_path / "data_manifest.csv", store, teacher="standin:teacher", options=options)
    after = softlabels.open(store)
    assert verify(after, jobs=1).good
    assert len(after.plans) == 2
    assert {shard: after.receipts[shard].digest for shard in digests} == digests
    new = max(after.receipts)
    assert (after.receipts[0].plan, after.receipts[new].plan) == ("", after.plan_digests[1])
    assert after.receipt(0).to_bytes() == (store / "receipts" / "00000.g0.json").read_bytes()


def test_a_success_that_keeps_the_plan_to_itself_is_a_problem(folder: Path) -> None:
    path = folder / "_SUCCESS-0001.json"
    path.write_bytes(softlabels.open(folder).success_bytes(1, with_plan=False))
    assert "_SUCCESS-0001.json does not fit" in verify(softlabels.open(folder), jobs=1).problems[0]


def test_more_windows_than_memory_are_refused(folder: Path) -> None:
    strip(folder)
    change_spec(folder, shard_windows=(1 << 31) - 1)
    change_plan(folder, windows=one((1 << 31) - 100, 5), shard=one(4, 5))
    plan = folder / "plan" / "0001.parquet"
    plan.write_bytes(encode_plan(decode_plan(plan.read_bytes())))
    with mock.patch("os.sysconf", return_value=1 << 16), pytest.raises(StoreError, match="windows, whose index takes"):
        len(softlabels.open(folder).index)


class TestDigestOfAStore:
    """One sha256 to publish beside a store."""

    def test_it_is_the_same_wherever_the_store_is(self, folder: Path, made: Path) -> None:
        for name in ("run.json", "README.md", "quarantine.csv", "probe_cache.jsonl", "requirements.txt"):
            (folder / name).unlink()
        (folder / "joins").mkdir(exist_ok=True)
        (folder / "receipts" / "notes.txt").touch()
        digest = softlabels.open(made).digest
        assert softlabels.open(folder, digest=digest).digest == digest
        assert softlabels.open(folder, digest=digest).again().digest == digest

    @pytest.mark.parametrize("what", ["plan", "receipt", "a receipt less", "a receipt more", "spec"])
    def test_it_is_another_one_once_anything_is(self, folder: Path, what: str) -> None:
        digest = softlabels.open(folder).digest
        first = folder / "receipts" / "00000.g0.json"
        if what == "plan":
            change_plan(folder, detail=one("note"))
        elif what == "receipt":
            first.write_bytes(first.read_bytes() + b"\n")
        elif what == "a receipt less":
            first.unlink()
        elif what == "a receipt more":
            change_json(Path(shutil.copy(first, folder / "receipts" / "00000.g1.json")), rows=3)
        else:
            change_spec(folder, teacher="another")
            path = folder / "plan" / "0001.parquet"
            path.write_bytes(encode_plan(decode_plan(path.read_bytes())))
        found = softlabels.open(folder).digest
        assert found != digest
        with pytest.raises(StoreError, match=f"expected digest {digest}, got {found}"):
            softlabels.open(folder, digest=digest)

    def test_a_store_that_changes_later_is_noticed_by_a_join(self, folder: Path, made: Path) -> None:
        store = softlabels.open(folder, digest=softlabels.open(folder).digest)
        (folder / "receipts" / "00003.g0.json").unlink()
        with pytest.raises(StoreError, match="expected digest"):
            store.join(made.parent / "data_manifest.csv", cache_dir=folder.parent / "cache")

    @pytest.mark.parametrize("digest", ["", "abc", "A" * 64, "a" * 65])
    def test_what_is_no_digest_is_wrong_usage(self, folder: Path, digest: str) -> None:
        with pytest.raises(ValueError, match="digest: expected 64 hexadecimal digits"):
            softlabels.open(folder, digest=digest)
        assert main(["verify", str(folder), "--digest", digest]) == 2

    def test_verify_prints_it_and_holds_it(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        digest = softlabels.open(folder).digest
        assert main(["verify", str(folder), "--digest", digest]) == 0
        assert f"digest      {digest}" in capsys.readouterr().out
        assert main(["verify", str(folder), "--digest", "0" * 64, "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert report["digest"] == digest
        assert report["problems"] == [f"expected the store of digest {'0' * 64}, got {digest}"]
        assert main(["inspect", str(folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == digest


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (lambda f: (f / "notes").symlink_to("/etc"), "is a link to '/etc'"),
    "a linked shard": (lambda f: relink(next((f / "shards").iterdir())), "is a link to"),
    "a linked folder": (lambda f: relink(f / "plan"), "'plan' is a link to"),
    "a pipe": (lambda f: os.mkfifo(f / "shards" / "00000-aaaaaaaaaaaa.parquet"), "is a pipe"),
    "a program": (lambda f: (f / "model.py").touch(), "'model.py' is no file of a store"),
    "a receipt of no name": (lambda f: (f / "receipts" / "0.g0.json").touch(), "'receipts/0.g0.json' is no file"),
    "a join": (lambda f: (f / "joins").mkdir(exist_ok=True), "joins/ holds arrays that no digest vouches for"),
    "a path": (lambda f: change_plan(f, path=one("../../etc/passwd")), "leads out of the audio root"),
    "an absolute path": (lambda f: change_plan(f, path=one("/etc/passwd")), "leads out of the audio root"),
}


def relink(path: Path) -> None:
    """Move a thing out of the store, and leave a link to it."""
    aside = path.parents[1] / f"aside-{path.name}" if path.is_dir() else path.parents[2] / path.name
    path.rename(aside)
    path.symlink_to(aside)


@pytest.mark.parametrize("kind", STRANGE)
def test_untrusted_names_what_is_no_part_of_a_store(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    change, complaint = STRANGE[kind]
    change(folder)
    assert main(["verify", str(folder), "--untrusted", "--jobs", "1"]) == 1
    assert complaint in capsys.readouterr().out


def test_untrusted_says_what_it_checked_and_runs_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run.json").write_text('{"audio_root": "/", "teacher": {"kind": "os:system", "model": "touch x"}}')
    assert main(["verify", str(folder), "--untrusted", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "plans       1 of 6 clips, 14 windows" in out
    assert "of 4 shards" in out
    assert main(["verify", str(folder), "--untrusted", "--recompute", "1"]) == 2
    assert main(["verify", str(folder), "--untrusted", "--shard", "0"]) == 2


class TestLinks:
    """Nothing is deleted or written through a link; of files, only those are swept that softlabels writes."""

    @pytest.mark.parametrize("name", ["claims", "shards", "components", "receipts", "plan", "joins"])
    def test_finish_leaves_what_a_link_points_at(self, folder: Path, tmp_path: Path, name: str) -> None:
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(folder / name, elsewhere) if (folder / name).is_dir() else elsewhere.mkdir()
        shutil.rmtree(folder / name, ignore_errors=True)
        ours = ["beat-" + "0" * 16, "00009-aaaaaaaaaaaa.parquet", "aaaaaaaaaaaa.parquet", f".tmp-{'0' * 16}"]
        for file in ours:
            (elsewhere / file).write_bytes(b"left")
            os.utime(elsewhere / file, (0, 0))
        (folder / name).symlink_to(elsewhere)
        before = sorted(path.name for path in elsewhere.iterdir())
        pipeline.finish(folder)
        assert sorted(path.name for path in elsewhere.iterdir()) == before

    @pytest.mark.parametrize("name", ["claims", "shards", "components"])
    def test_finish_sweeps_only_files_of_ours(self, folder: Path, tmp_path: Path, name: str) -> None:
        (folder / name).mkdir(exist_ok=True)
        precious = tmp_path / "precious"
        precious.write_bytes(b"1")
        os.utime(precious, (0, 0))
        linked = {
            "claims": "beat-" + "0" * 16,
            "shards": "00009-aaaaaaaaaaaa.parquet",
            "components": "a" * 12 + ".parquet",
        }
        (folder / name / linked[name]).symlink_to(precious)
        for foreign in ("thesis.tex", ".tmp-thesis", "00009-AAAAAAAAAAAA.parquet"):
            (folder / name / foreign).touch()
            os.utime(folder / name / foreign, (0, 0))
        pipeline.finish(folder)
        assert precious.exists()
        assert {"thesis.tex", ".tmp-thesis"} <= {path.name for path in (folder / name).iterdir()}

    @pytest.mark.parametrize("write", ["put", "put_if_absent"])
    @pytest.mark.parametrize("name", ["claims", "shards", "receipts", "plan"])
    def test_nothing_is_written_through_a_link(self, tmp_path: Path, name: str, write: str) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match=f"{name} is a link"):
            getattr(LocalStorage(tmp_path / "store"), write)(f"{name}/x", b"1")
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_the_store_itself_may_be_a_link_and_its_files_too(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "here").symlink_to(folder)
        relink(next((folder / "shards").iterdir()))
        store = softlabels.open(tmp_path / "here")
        assert sum(len(rows) for rows in store.read()) == 14

    @pytest.mark.parametrize("what", ["link", "pipe", "folder"])
    def test_the_probe_cache_is_not_written_through_a_link(self, made: Path, tmp_path: Path, what: str) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "profile").write_text("mine\n")
        place = tmp_path / "new" / "probe_cache.jsonl"
        make = {"link": lambda: place.symlink_to(tmp_path / "profile"), "pipe": lambda: os.mkfifo(place)}
        make.get(what, place.mkdir)()
        options = pipeline.RunOptions(backend="sequential")
        pipeline.run(made.parent / "data_manifest.csv", tmp_path / "new", teacher="standin:teacher", options=options)
        assert (tmp_path / "profile").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["store.json", "classes.txt", "receipts/00001.g0.json", "plan/0001.parquet"])
def test_a_pipe_in_place_of_a_file_hangs_nobody(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(StoreError):
        softlabels.open(folder).read_shard(1)


NO_FILE: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link below a file": lambda path: path.symlink_to("/dev/null/x"),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("kind", NO_FILE)
@pytest.mark.parametrize("name", ["store.json", "classes.txt", "receipts/00001.g0.json", "plan/0001.parquet", "shard"])
def test_what_is_no_file_is_named(folder: Path, name: str, kind: str, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    path = next((folder / "shards").glob("00001-*")) if name == "shard" else folder / name
    path.unlink()
    NO_FILE[kind](path)
    with pytest.raises(StoreError, match=str(folder)):
        softlabels.open(folder).read_shard(1)


@pytest.mark.parametrize("name", ["store.json", "classes.txt", "receipts/00001.g0.json", "plan/0001.parquet", "shard"])
def test_a_huge_file_is_named_and_not_read(folder: Path, name: str) -> None:
    path = next((folder / "shards").glob("00001-*")) if name == "shard" else folder / name
    os.truncate(path, 1 << 42)  # sparse
    with pytest.raises(StoreError, match="has 4,398,046,511,104 bytes, expected at most"):
        softlabels.open(folder).read_shard(1)


@pytest.mark.parametrize("key", ["shards/x", "quarantine.csv", "receipts/00007.g0.json"])
def test_a_folder_in_the_place_of_a_file_that_is_written_is_named(tmp_path: Path, key: str) -> None:
    (tmp_path / key).mkdir(parents=True)
    with pytest.raises(StoreError, match=f"{key} is a folder, expected a file; delete it"):
        LocalStorage(tmp_path).put(key, b"1")


@pytest.mark.parametrize("key", ["plan/0001.parquet", "classes.txt", "store.json"])
def test_an_export_names_what_is_gone_meanwhile(folder: Path, tmp_path: Path, key: str, monkeypatch) -> None:
    get = LocalStorage.get

    def gone(self: LocalStorage, asked: str) -> bytes:
        return get(self, "gone" if asked == key and (tmp_path / "at it").exists() else asked)

    store = softlabels.open(folder)
    (tmp_path / "at it").touch()
    monkeypatch.setattr(LocalStorage, "get", gone)
    monkeypatch.setattr(dataset_folder, "StoreReader", lambda storage: store)
    with pytest.raises(StoreError, match=f"{key} is gone; restore it from a copy"):
        dataset_folder.write_dataset_folder(store, tmp_path / "out", lambda windows: None)


def test_a_huge_quarantine_is_written_again(folder: Path) -> None:
    path = folder / "quarantine.csv"
    data = path.read_bytes()
    os.truncate(path, 1 << 42)
    pipeline.finish(folder)
    assert path.read_bytes() == data


@pytest.mark.parametrize("name", ["", "shards", "receipts", "plan"])
def test_a_file_in_place_of_a_folder_is_named(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    (folder / name).write_text("no folder")
    with pytest.raises(StoreError, match=str(folder)):
        softlabels.open(folder).read_shard(1)


@pytest.mark.parametrize("kind", ["link to nowhere", "folder", "pipe", "link to itself"])
def test_a_receipt_that_is_no_file_stops_a_commit(folder: Path, kind: str) -> None:
    store = softlabels.open(folder)
    receipt, data = store.receipt(0), store.shard_bytes(0)
    path = folder / "receipts" / "00000.g0.json"
    path.unlink()
    {
        "link to nowhere": lambda: path.symlink_to("nowhere"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link to itself": lambda: path.symlink_to(path),
    }[kind]()
    with pytest.raises(StoreError, match="is no file, or a link to nowhere"):
        commit_shard(store.storage, data, receipt)


class Turns:
    """Lets one of two threads go on at a time, and hands over by the toss of a coin."""

    def __init__(self, seed: int) -> None:
        self.coin, self.lock, self.left = random.Random(seed), threading.Condition(), {0, 1}
        self.now = self.coin.randrange(2)

    def wait(self, me: int) -> None:
        with self.lock:
            self.now = self.coin.choice(sorted(self.left))
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.now == me, timeout=20)

    def leave(self, me: int) -> None:
        with self.lock:
            self.left.discard(me)
            self.now = next(iter(self.left), me)
            self.lock.notify_all()


class Switching(LocalStorage):
    """Hands over before every write and every look."""

    turns: Turns
    me = threading.local()

    def put(self, key: str, data: bytes) -> None:
        self.turns.wait(self.me.number)
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.turns.wait(self.me.number)
        return super().put_if_absent(key, data)

    def get_small(self, key: str, most: int) -> bytes:
        self.turns.wait(self.me.number)
        return super().get_small(key, most)


def planned_by_both(made: Path, tmp_path: Path, kind: str) -> list[Preparation]:
    contenders = {
        "teachers": (("standin:teacher", 0.0), ("standin:bands", 0.0)),
        "overlaps": (("standin:teacher", 0.0), ("standin:teacher", 0.05)),
    }
    clips, root = read_clips(made.parent / "data_manifest.csv", None)
    return [
        prepare(clips, root, tmp_path / "none", TeacherChoice(kind=teacher), LabelOptions(overlap_s=overlap_s), jobs=1)
        for teacher, overlap_s in contenders[kind]
    ]


@pytest.mark.parametrize("kind", ["teachers", "overlaps"])
def test_of_two_runs_on_a_new_store_one_makes_it_and_one_is_refused(made: Path, tmp_path: Path, kind: str) -> None:
    both = planned_by_both(made, tmp_path, kind)
    winners = set()
    for seed in range(12):
        path, turns, ended = tmp_path / f"store{seed}", Turns(seed), dict[int, object]()
        storage = type("Storage", (Switching,), {"turns": turns})

        def make(me: int, path=path, turns=turns, ended=ended) -> None:
            Switching.me.number = me
            try:
                ended[me] = write_plan(path, both[me]).spec
            except StoreError as e:
                ended[me] = str(e)
            finally:
                turns.leave(me)

        with mock.patch.object(preparing, "open_storage", storage):
            threads = [threading.Thread(target=make, args=(me,)) for me in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=30)
        (winner,) = [me for me, how in ended.items() if not isinstance(how, str)]
        winners.add(winner)
        assert "another run" in str(ended[1 - winner])
        store, prepared = softlabels.open(path), both[winner]
        assert store.spec == prepared.spec
        assert decode_plan((path / "plan" / "0001.parquet").read_bytes(), store.spec.fingerprint()).num_rows == 6
        assert prepared.spec.teacher_digest in (path / "README.md").read_text()
        assert store.hints()["teacher"]["kind"] == prepared.choice.kind
        assert store.census.windows == sum(clip.windows for clip in prepared.new)
    assert winners == {0, 1}


def test_a_run_without_store_json_takes_no_plan_of_another(folder: Path, made: Path) -> None:
    (folder / "store.json").unlink()
    options = pipeline.RunOptions(backend="sequential")
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(StoreError, match="the folder holds other things"):
        pipeline.run(made.parent / "data_manifest.csv", folder, teacher="standin:bands", options=options)
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_classes_of_another_run_are_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "classes.txt").write_text("Another list\n")
    options = pipeline.RunOptions(backend="sequential")
    with pytest.raises(StoreError, match="another run is making it with another class list"):
        pipeline.run(made.parent / "data_manifest.csv", tmp_path / "new", teacher="standin:teacher", options=options)
    assert (tmp_path / "new" / "classes.txt").read_text() == "Another list\n"


def test_every_receipt_and_success_has_the_digest_of_its_plan(folder: Path) -> None:
    digest = hashlib.sha256((folder / "plan" / "0001.parquet").read_bytes()).hexdigest()
    assert {json.loads(path.read_text())["plan"] for path in (folder / "receipts").iterdir()} == {digest}
    assert json.loads((folder / "_SUCCESS-0001.json").read_text())["plan_digest"] == digest


@pytest.mark.parametrize("text", [b"\xff\xfe", b"# Soft labels \x93by", b"\x00\x80"])
def test_a_card_that_is_no_text_is_exported_all_the_same(folder: Path, tmp_path: Path, text: bytes) -> None:
    (folder / "README.md").write_bytes(text)
    dataset_folder.write_dataset_folder(softlabels.open(folder), tmp_path / "out", lambda windows: None)
    assert text.decode(errors="replace") in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
