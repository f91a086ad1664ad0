"""The teacher's embedding beside its labels: stored, verified, joined, cropped, fed to training, exported."""

import dataclasses
import io
import json
import logging
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import EMBEDDED, Corpus, label, least_seconds, make_corpus, shard_bytes
from standin import SPEC, Embedded, StandIn
from test_export import TeacherCache
from test_shard import rows as made_rows

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions, TeacherChoice
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from pipeline.exports.export import export
from pipeline.teachers.scoring import numerics_class, score_with_embedding
from softlabels import JoinError, StoreError, TeacherError
from softlabels.batches.options import BatchOptions
from softlabels.batches.stream import Batches
from softlabels.digests import sha256_of_bytes
from softlabels.kept.soft_file import HALF, write_soft
from softlabels.records.receipts import commit_generation
from softlabels.records.shard import ShardRows, decode_shard, encode_shard, round_embeddings, round_values
from softlabels.store.embeddings import as_half
from softlabels.store.equivalence import compare_rows

SMALL = dataclasses.replace(SPEC, embedding=5)
FIRSTS = {"c0": 0.5, "c1": 0.25, "c2": 0.75}  # a first sample that makes the stand-in's embedding odd


def run(corpus: Corpus, store: str, teacher: object = EMBEDDED, **labelling: object) -> softlabels.SoftLabelStore:
    """Label beside the corpus, in this process."""
    pipeline.run(
        corpus.manifest,
        corpus.folder / store,
        teacher=teacher,
        labelling=LabelOptions(**{"shard_windows": 4, **labelling}),
        options=RunOptions(backend="sequential"),
    )
    return softlabels.open(corpus.folder / store)


def odd(corpus: Corpus) -> None:
    """The first window of three clips has an embedding that is not finite."""
    for i, (name, first) in enumerate(FIRSTS.items()):
        samples = np.random.default_rng(i).uniform(-0.4, 0.4, 2400 if name != "c1" else 800).astype(np.float32)
        samples[0] = first
        corpus.write_samples(f"{name}.wav", samples, subtype="FLOAT")


def expected_embeddings(corpus: Corpus, store: softlabels.SoftLabelStore) -> np.ndarray:
    """(windows, 5) as the stand-in answers, from the files, in the order of `to_pandas`."""
    windows = []
    for row in store.to_pandas().itertuples():
        samples, _ = soundfile.read(corpus.folder / f"{row.clip_id}.wav", dtype="float32")
        part = samples[row.window_index * 800 : (row.window_index + 1) * 800]
        windows.append(np.pad(part, (0, 800 - len(part))))
    return round_embeddings(Embedded().score_with_embedding(np.stack(windows))[1])


# What is stored


@pytest.mark.parametrize("settings", [{}, {"layout": "sparse"}, {"jitters": 3}])
def test_probabilities_are_bit_equal_to_a_store_without_and_embeddings_are_the_teachers(corpus, settings) -> None:
    odd(corpus)
    without, store = run(corpus, "without", "standin:embedded", **settings), run(corpus, "with", **settings)
    assert ("embedding" in without.spec.to_json(), store.spec.embedding) == (False, 5)
    assert dataclasses.replace(store.spec, embedding=0) == without.spec
    before, after = without.to_pandas(), store.to_pandas()
    for name in before.columns:
        assert np.array_equal(np.stack(before[name]), np.stack(after[name])), name
    if "jitters" not in settings:
        np.testing.assert_array_equal(store.embeddings(), expected_embeddings(corpus, store))
    missing = after[np.isnan(np.stack(after.embedding)).all(axis=1)]
    of_mean = ["c0", "c1"] if "jitters" in settings else ["c0", "c1", "c2"]  # a third of the largest number is one
    assert list(zip(missing.clip_id, missing.window_index, strict=True)) == [(clip, 0) for clip in of_mean]
    assert store.census.quarantine == ()
    np.testing.assert_array_equal(store.embeddings([("c3", 2), ("c0", 1)])[0], after.embedding[9])
    assert verify(store, recompute=1.0, jobs=1).good
    assert [each.likeness for each in regenerate(store, [0], jobs=1)] == ["identical"]


def test_of_several_shifts_it_is_the_mean(corpus) -> None:
    samples = np.random.default_rng(7).uniform(-0.4, 0.4, 1600).astype(np.float32)
    corpus.write_samples("c0.wav", samples, subtype="FLOAT")
    corpus.write_manifest("clip_id,path\nc0,c0.wav\n")
    shift = round(0.05 * 2 / 3 * 8000)
    padded = np.concatenate([np.zeros(shift), samples, np.zeros(shift)]).astype(np.float32)
    shifts = np.stack([padded[start:][:800] for start in (0, shift, 2 * shift)])
    mean = Embedded().score_with_embedding(shifts)[1].astype(np.float64).mean(axis=0)
    np.testing.assert_array_equal(run(corpus, "s", jitters=3).embeddings()[0], round_values(mean.astype(np.float32)))


def test_bytes_do_not_depend_on_workers_nor_on_the_order_of_the_manifest(corpus) -> None:
    first = shard_bytes(run(corpus, "first").storage.root)
    header, *lines = corpus.manifest.read_text().splitlines()
    corpus.write_manifest("\n".join([header, *reversed(lines)]) + "\n")
    assert shard_bytes(run(corpus, "second").storage.root) == first


def test_a_store_with_kept_classes_has_components_and_embeddings(corpus) -> None:
    (corpus.folder / "few.txt").write_text("Cus cus_Gamma\n")
    store = run(corpus, "kept", keep_classes=corpus.folder / "few.txt", components=2)
    assert (store.spec.components, store.spec.embedding) == (2, 5)
    np.testing.assert_array_equal(store.embeddings(), expected_embeddings(corpus, store))
    assert verify(store, jobs=1).good


def test_rounding_of_any_float_ends_as_eight_bits_or_as_a_row_of_nan() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, (50_000, 3), dtype=np.uint32)
    bits[:4] = [[0x7F7FFFFF] * 3, [0xFFFFFFFF, 0, 0], [0x7FC00001, 1, 2], [0xFF800000, 1, 2]]  # each once
    values = bits.view(np.float32)
    rounded = round_embeddings(values)
    finite = np.isfinite(rounded).all(axis=1)
    assert not finite[:4].any()
    assert (rounded[~finite].view(np.uint32) == 0x7FC00000).all(), "one NaN, on every machine"
    assert np.isfinite(values[finite]).all()
    normal = np.abs(values[finite]) >= 2.0**-126
    assert np.abs(rounded[finite][normal] / values[finite][normal].astype(np.float64) - 1).max() <= 2.0**-9
    np.testing.assert_array_equal(round_embeddings(rounded).view(np.uint32), rounded.view(np.uint32))


# Bad teachers, bad stores


class Odd(Embedded):
    def __init__(self, change: Callable[[np.ndarray, np.ndarray], object]) -> None:
        self.change = change

    def score_with_embedding(self, windows: np.ndarray) -> object:
        return self.change(*super().score_with_embedding(windows))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s, e: (s, e[:, :4]), r"expected \(4, 5\) float32 embeddings .* got \(4, 4\)"),
        (lambda s, e: (s, e[0]), r"got \(5,\)"),
        (lambda s, e: (s, e.astype(np.float64)), "got .* float64"),
        (lambda s, e: (s, None), "got NoneType"),
        (lambda s, e: (e, s), r"got \(4, 3\)"),
        (lambda s, e: s, r"expected \(scores, embeddings\), got ndarray"),
        (lambda s, e: [s, e], "got list"),
        (lambda s, e: (s[:, :2], e), r"expected \(4, 3\) float32 scores"),
    ],
)
def test_an_answer_of_another_form_is_refused_on_control_windows(change, match: str) -> None:
    for call in (lambda t: numerics_class(t, embedded=True), lambda t: score_with_embedding(t, np.zeros((4, 800)))):
        with pytest.raises(TeacherError, match=match):
            call(Odd(change))


def test_a_teacher_without_embeddings_asked_for_them_is_one_error_before_audio(corpus, capsys) -> None:
    shutil.rmtree(corpus.folder / "store", ignore_errors=True)
    (corpus.folder / "c0.wav").unlink()
    for kind in ("standin:teacher", "standin:wide"):
        arguments = ["run", str(corpus.manifest), "-o", str(corpus.folder / "store"), "--teacher", kind, "--embedding"]
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "has no embedding to keep: leave out --embedding; birdnet has one" in line
    assert not (corpus.folder / "store").exists(), "not even probed"


@pytest.mark.parametrize("width", [None, -1, 2.5, True, "5"])
def test_a_width_that_is_no_number_is_none(width) -> None:
    teacher = Embedded()
    teacher.embedding_width = width
    assert pipeline.teachers.teacher.embedding_width(teacher) == 0


def test_a_store_is_extended_as_it_was_made(corpus, capsys) -> None:
    run(corpus, "without", "standin:embedded")
    run(corpus, "with")
    grown = corpus.manifest.read_text() + "c9,c9.wav,,train\n"
    corpus.write_audio("c9.wav", 0.2, seed=9)
    corpus.write_manifest(grown)
    for kind in ("standin:embedded", EMBEDDED):  # as it is, or named again
        store = run(corpus, "with", kind)
        assert store.spec.embedding == 5
        assert np.isfinite(store.embeddings([("c9", 1)])).all()
    with pytest.raises(StoreError, match="'.*without' .*embedding: none, not 5; .*only without: leave out --embedding"):
        run(corpus, "without", EMBEDDED)
    assert len(run(corpus, "without", "standin:embedded")) == 14 + 2

    class Wider(Embedded):
        embedding_width = 6

    import standin

    standin.wider = Wider
    try:
        with pytest.raises(StoreError, match="embedding: 5, not 6; .* with a model of that width"):
            run(corpus, "with", TeacherChoice(kind="standin:wider", embedding=True))
    finally:
        del standin.wider
    with pytest.raises(TeacherError, match="has no embedding to keep"):
        run(corpus, "with", "standin:teacher")


def test_a_store_without_asked_for_them_says_what_makes_one(store, corpus) -> None:
    labels = store.join(corpus.manifest, canary=False)
    asked = [
        lambda: labels.embedding([0]),
        lambda: labels.embedding_width,
        lambda: labels.embedding_at(["c0"], [0.0]),
        lambda: softlabels.make_dataset(labels, embedding=True),
        lambda: labels.as_pydataset(embedding=True),
        lambda: labels.as_grain(embedding=True),
        lambda: softlabels.attach(labels, embedding=True),
        lambda: labels.save(corpus.folder / "saved", embedding=True),
    ]
    for call in asked:
        with pytest.raises(JoinError, match="the store that these labels are from has none; `softlabels run --embed"):
            call()
    for call in (store.embeddings, lambda: store.embeddings([("c0", 0)])):
        with pytest.raises(StoreError, match="has no embeddings: it was made without; `softlabels run --embedding`"):
            call()


def small_rows(embedding: np.ndarray) -> ShardRows:
    return dataclasses.replace(made_rows(np.full((len(embedding), 3), 0.25)), embedding=embedding.astype(np.float32))


def unchecked(monkeypatch: pytest.MonkeyPatch, rows: ShardRows, spec=SMALL) -> bytes:
    """The shard of embeddings as they are."""
    with monkeypatch.context() as patch:
        patch.setitem(softlabels.records.shard.ROUNDED, "embedding", lambda values: values)
        return encode_shard(rows, spec, shard=0)


@pytest.mark.parametrize(
    ("number", "elsewhere"), [(np.inf, 1.0), (-np.inf, np.nan), (np.nan, 1.0), (np.nan, 0.0), (np.inf, np.inf)]
)
def test_a_row_that_is_neither_finite_nor_nan_alone_is_never_read(monkeypatch, number: float, elsewhere: float) -> None:
    values = np.ones((4, 5), np.float32)
    values[2], values[2, 3] = elsewhere, number
    with pytest.raises(StoreError, match="expected finite embedding, or NaN in an entire row"):
        decode_shard(unchecked(monkeypatch, small_rows(values)), SMALL, 3)
    values[2] = np.nan
    assert np.isnan(decode_shard(encode_shard(small_rows(values), SMALL, shard=0), SMALL, 3).embedding[2]).all()


@pytest.mark.parametrize("width", [4, 6, 1])
def test_a_column_of_another_width_is_refused(width: int) -> None:
    other = dataclasses.replace(SMALL, embedding=width)
    data = encode_shard(small_rows(np.ones((2, width))), other, shard=0)
    with pytest.raises(StoreError, match="made with fingerprint"):
        decode_shard(data, SMALL, 3)
    table, forged = pq.read_table(io.BytesIO(data)), io.BytesIO()
    named = {**table.schema.metadata, b"softlabels.fingerprint": SMALL.fingerprint().encode()}
    pq.write_table(table.replace_schema_metadata(named), forged, write_page_checksum=True)
    match = rf"(?s)expected the columns .*\[5\] not null.* got .*\[{width}\] not null"
    with pytest.raises(StoreError, match=match):
        decode_shard(forged.getvalue(), SMALL, 3)


NANS = np.array([0x7FC00001, 0xFFC00000, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)


def test_verify_notices_numbers_that_no_run_writes(corpus, monkeypatch) -> None:
    store = run(corpus, "with")
    rows = store.read_shard(1)
    for change in (
        lambda e: e + np.float32(1e-4),
        lambda e: np.nextafter(e, np.float32(9)),
        lambda e: np.where(np.arange(len(e))[:, None] == 1, NANS[0], e),
        lambda e: np.where(np.arange(len(e))[:, None] == 1, NANS[3], e),
        lambda e: e * 0 + np.float32(-0.0) * np.float32(1),
    ):
        data = unchecked(monkeypatch, dataclasses.replace(rows, embedding=change(rows.embedding)), store.spec)
        receipt = dataclasses.replace(store.receipt(1), digest=sha256_of_bytes(data), size=len(data))
        commit_generation(store.storage, data, receipt)
        (check,) = verify(softlabels.open(store.storage.root), shards=[1], jobs=1).shards
        assert "expected embedding with 8 significand bits" in check.problem


def test_recomputing_notices_another_embedding_under_the_same_labels(corpus) -> None:
    store = run(corpus, "with")
    rows = store.read_shard(1)
    for wrong in (rows.embedding[::-1], rows.embedding * np.float32(1.05), rows.embedding * np.float32(np.nan)):
        data = encode_shard(dataclasses.replace(rows, embedding=wrong), store.spec, shard=1)
        receipt = dataclasses.replace(store.receipt(1), digest=sha256_of_bytes(data), size=len(data))
        commit_generation(store.storage, data, receipt)
        report = verify(softlabels.open(store.storage.root), shards=[1], recompute=1.0, jobs=1)
        assert "says something else" in report.shards[0].problem


@pytest.mark.parametrize(
    ("change", "likeness"),
    [
        (lambda e: e, "identical"),
        (lambda e: e * np.float32(1 + 2**-9), "equivalent"),
        (lambda e: e + np.abs(e).max(axis=1, keepdims=True) * np.float32(2**-13), "equivalent"),
        (lambda e: e + np.abs(e).max(axis=1, keepdims=True) * np.float32(2**-6), "different"),
        (lambda e: -e, "different"),
        (lambda e: e[:, ::-1], "different"),
        (lambda e: np.where(np.arange(4)[:, None] == 1, np.float32(0), e), "different"),
        (lambda e: np.where(np.arange(4)[:, None] == 2, np.float32(np.nan), e), "different"),
        (lambda e: None, "different"),
    ],
)
def test_d0_of_embeddings_is_a_rounding_step_and_near_zero_a_share_of_the_largest(change, likeness: str) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    values[1], values[0, 2] = np.nan, 0
    stored = small_rows(values)
    changed = change(stored.embedding)
    assert compare_rows(stored, dataclasses.replace(stored, embedding=changed)) == likeness


# Joined


@pytest.fixture
def embedded(corpus: Corpus) -> softlabels.SoftLabelStore:
    """The store of `corpus` with embeddings, three of whose windows have none."""
    odd(corpus)
    return label(corpus, teacher=EMBEDDED)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> softlabels.JoinedLabels:
    """Labels of such a store, for tests that change nothing of it."""
    made = make_corpus(tmp_path_factory.mktemp("embedded"))
    odd(made)
    return label(made, teacher=EMBEDDED).join(made.manifest, canary=False)


@pytest.fixture
def own(labels: softlabels.JoinedLabels, tmp_path: Path) -> softlabels.JoinedLabels:
    """The same, kept by themselves."""
    manifest = Path(labels.root) / "data_manifest.csv"
    return stored(labels).join(manifest, canary=False, cache_dir=tmp_path / "own")


def stored(labels: softlabels.JoinedLabels) -> softlabels.SoftLabelStore:
    return softlabels.open(Path(labels.root) / "store")


def by_key(store: softlabels.SoftLabelStore, labels: softlabels.JoinedLabels) -> np.ndarray:
    """(rows, 5) float16, looked up one by one."""
    keys = labels.keys
    pairs = list(zip(keys.clip_id, keys.window_index.tolist(), strict=True))
    return np.concatenate([as_half(store.embeddings([pair])) for pair in pairs])


def test_rows_have_the_embeddings_of_their_windows(corpus, embedded) -> None:
    labels = embedded.join(corpus.manifest, canary=False)
    expected = by_key(embedded, labels)
    assert labels.embedding_width == 5
    assert labels.embedding().dtype == np.float16
    np.testing.assert_array_equal(labels.embedding(), expected)
    rows = np.array([13, 0, 0, 7], np.int32)
    out = np.empty((4, 5), np.float16)
    assert labels.embedding(rows, out=out) is out
    np.testing.assert_array_equal(out, expected[rows])
    np.testing.assert_array_equal(labels.embedding([]), expected[:0])
    wide = np.zeros((4, 8), np.float16)
    labels.embedding(rows, out=wide[:, 2:7])
    np.testing.assert_array_equal(wide[:, 2:7], expected[rows])
    for step in (labels.calibrate(), labels.exclusive(), pickle.loads(pickle.dumps(labels)), labels.adapt()):
        np.testing.assert_array_equal(step.embedding(rows), expected[rows])
    test = embedded.join(corpus.manifest, split="test", classes=["Bus bus_Beta"], canary=False)
    np.testing.assert_array_equal(test.embedding(), by_key(embedded, test))


@pytest.mark.parametrize("rows", [[14], [-1], [0.0], [[0]], [1 << 40]])
def test_rows_that_are_none_and_an_out_that_does_not_fit_are_refused(labels, rows) -> None:
    with pytest.raises(ValueError, match="expected row numbers from 0 to 13"):
        labels.embedding(rows)
    for out in (np.empty((2, 4), np.float16), np.empty((1, 5), np.float16), np.empty((2, 5), np.float32)):
        with pytest.raises(ValueError, match=r"out: expected float16 of shape \(2, 5\)"):
            labels.embedding([0, 1], out=out)


def test_windows_without_a_label_have_none(corpus, embedded, caplog) -> None:
    (corpus.folder / "new.wav").write_bytes((corpus.folder / "c3.wav").read_bytes())
    corpus.write_manifest(corpus.manifest.read_text() + "new,new.wav,noise,train\n")
    labels = embedded.join(corpus.manifest, missing="hard", canary=False)
    dropped = embedded.join(corpus.manifest, missing="drop", canary=False)
    np.testing.assert_array_equal(labels.embedding()[:14], by_key(embedded, dropped))
    assert np.isnan(labels.embedding()[14:]).all()
    assert "3 of 15 rows count as missing: 3 are not finite, 0 do not fit float16" in caplog.text


def test_it_is_built_once_when_asked_for_and_shared_by_joins_of_other_classes(corpus, embedded) -> None:
    labels = embedded.join(corpus.manifest, canary=False)
    folder = labels.path.parent
    assert list(folder.glob("embedding-*")) == []
    labels.embedding([0])
    (built,) = folder.glob("embedding-*")
    before = built.stat()
    other = embedded.join(corpus.manifest, classes=["Cus cus_Gamma"], other_labels="absent", canary=False)
    shutil.rmtree(embedded.storage.root / "shards")  # no store is needed any more
    np.testing.assert_array_equal(other.embedding(), labels.embedding())
    assert (built.stat().st_mtime_ns, built.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_store_that_was_labelled_again_since_is_not_mixed_in(corpus, embedded) -> None:
    labels = embedded.join(corpus.manifest, canary=False)
    rows = embedded.read_shard(1)
    forged = dataclasses.replace(rows, embedding=rows.embedding[::-1])
    data = encode_shard(forged, embedded.spec, shard=1)
    receipt = dataclasses.replace(embedded.receipt(1), digest=sha256_of_bytes(data), size=len(data))
    commit_generation(embedded.storage, data, receipt)
    with pytest.raises(JoinError, match="has changed since these labels were joined; join again"):
        labels.embedding([0])
    again = softlabels.open(embedded.storage.root)
    np.testing.assert_array_equal(
        again.join(corpus.manifest, canary=False).embedding([4])[0], as_half(forged.embedding)[0]
    )


def test_a_store_that_grew_since_still_gives_them(corpus, embedded) -> None:
    labels = embedded.join(corpus.manifest, canary=False)
    expected = by_key(embedded, labels)
    corpus.write_audio("b9.wav", 0.3, seed=9)
    corpus.write_manifest(corpus.manifest.read_text() + "b9,b9.wav,,train\n")
    label(corpus, teacher=EMBEDDED)
    np.testing.assert_array_equal(labels.embedding(), expected)


def test_rows_that_float16_cannot_hold_are_missing_and_told(corpus, caplog) -> None:
    for name, first in (("c0", 0.875), ("c5", 0.625)):  # 7e4 and 1e-6
        samples = np.full(1600, 0.1, np.float32)
        samples[0] = first
        samples[1:6] = -0.7 / 3 if first == 0.625 else 0.1  # the other numbers are near 0
        corpus.write_samples(f"{name}.wav", samples, subtype="FLOAT")
    labels = label(corpus, teacher=EMBEDDED).join(corpus.manifest, canary=False)
    with caplog.at_level(logging.WARNING):
        found = labels.embedding()
    missing = labels.keys[np.isnan(found).any(axis=1)]
    assert list(zip(missing.clip_id, missing.window_index, strict=True)) == [("c0", 0), ("c5", 0)]
    assert "2 of 13 rows count as missing: 0 are not finite, 2 do not fit float16" in caplog.text


def test_half_of_every_stored_number_is_exact_or_the_row_is_missing() -> None:
    rng = np.random.default_rng(0)
    values = round_embeddings((rng.normal(size=(300, 8)) * 2.0 ** rng.integers(-30, 30, (300, 1))).astype(np.float32))
    half = as_half(values)
    largest = np.abs(values).max(axis=1)
    fits = (largest >= 2.0**-14) & (largest <= 65504)
    assert 50 < fits.sum() < 250
    assert np.isnan(half[~fits]).all()
    error = np.abs(half[fits].astype(np.float64) - values[fits]) / largest[fits, None]
    assert error.max() <= 2.0**-11, "of the largest; exact unless it is below the normal numbers"
    np.testing.assert_array_equal(as_half(np.zeros((1, 8), np.float32)), np.zeros((1, 8)))


@pytest.mark.parametrize("how", ["linear", "nearest", "overlap"])
def test_crops_have_the_mean_of_the_windows_around_them(labels, how: str) -> None:
    by_window = {key: stored(labels).embeddings([key])[0] for key in [("c3", i) for i in range(4)]}
    start_s = [0.1, 0.13, 0.225, 0.3, 0.31]
    found = labels.embedding_at(["c3"] * 5, start_s, how=how)
    assert found.dtype == np.float16
    for at, row in zip(start_s[:4], found[:4], strict=True):
        first, share = int(at * 10), at * 10 % 1
        share = float(share > 0.5) if how == "nearest" else share
        after = by_window.get(("c3", first + 1), by_window["c3", first])
        np.testing.assert_allclose(row, (1 - share) * by_window["c3", first] + share * after, rtol=2e-3, atol=2e-3)
    assert np.isnan(found[4]).all(), "it leaves the clip"
    assert np.isnan(labels.embedding_at(["c0"] * 2, [0.0, 0.05], how=how)[0]).all(), "its window has none"
    with pytest.raises(ValueError, match="'nobody' is not a clip"):
        labels.embedding_at(["nobody"], [0.0], how=how)


def test_saved_labels_keep_them_where_asked(corpus, embedded, tmp_path) -> None:
    labels = embedded.join(corpus.manifest, canary=False)
    expected = labels.embedding()
    first = softlabels.load_labels(labels.save(tmp_path / "first", embedding=True))
    second = softlabels.load_labels(first.save(tmp_path / "second", embedding=True))
    bare = softlabels.load_labels(first.save(tmp_path / "bare"))
    shutil.rmtree(corpus.folder / "store")
    for each in (first, second, pickle.loads(pickle.dumps(second))):
        np.testing.assert_array_equal(each.embedding(), expected)
    assert not (tmp_path / "bare" / "embedding.npy").exists()
    with pytest.raises(JoinError, match=r"were saved without: labels.save\(path, embedding=True\)"):
        bare.embedding()
    assert bare.y_true().shape == (14, 6)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("where", "damage"),
    [("kept", "bit"), ("kept", "cut"), ("kept", "other"), ("saved", "bit"), ("saved", "longer"), ("saved", "gone")],
)
def test_damage_of_the_array_is_an_error_or_mended_and_never_an_embedding(
    labels, own, tmp_path, damage: str, where: str
) -> None:
    expected = own.embedding()
    (path,) = own.path.parent.glob("embedding-*")
    if where == "saved":
        path = own.save(tmp_path / "saved", embedding=True) / "embedding.npy"
    if damage == "bit":
        flip(path, 128 + 2 * 5 * 7 + 3)
    elif damage == "cut":
        os.truncate(path, path.stat().st_size - 10)
    elif damage == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        path.unlink()
    if damage == "other":
        write_soft(path, (14, 4), [np.ones((14, 4), HALF)], dtype=HALF)

    def read() -> np.ndarray:
        again = pickle.loads(pickle.dumps(own)) if where == "kept" else softlabels.load_labels(path.parent)
        return again.embedding()

    if where == "kept" and damage != "bit":  # seen when it is opened
        np.testing.assert_array_equal(read(), expected)
    else:
        with pytest.raises(JoinError, match="damaged|cannot be read"):
            read()


def test_saved_labels_do_not_take_other_embeddings_of_the_same_form(own, tmp_path) -> None:
    path = own.save(tmp_path / "saved", embedding=True)
    header = json.loads((path / "join.json").read_text())
    write_soft(path / "other.npy", (14, 5), [np.ones((14, 5), HALF)], dtype=HALF)
    os.replace(path / "other.npy", path / "embedding.npy")
    with pytest.raises(JoinError, match="embedding.npy is damaged"):
        softlabels.load_labels(path)
    with pytest.raises(JoinError, match="holds other embeddings"):
        softlabels.load_labels(path, verify=False).embedding()
    assert header["embedding"]["width"] == 5


def test_verify_finds_damage_of_arrays_kept_in_a_store(corpus, embedded) -> None:
    embedded.join(corpus.manifest, canary=False).embedding()
    (path,) = (embedded.storage.root / "joins").glob("embedding-*")
    assert verify(embedded, jobs=1).good
    flip(path, 128 + 40)
    (problem,) = verify(embedded, jobs=1).problems
    assert f"joins/{path.name}: " in problem
    assert "the checksums of 1 of its pages differ" in problem


@pytest.mark.parametrize(
    "noted",
    [
        *(5, "x", [], {}, [None, 3], [{}]),
        *({"width": width, "rows": "0" * 64} for width in ("5", True, 0, None)),
        *({"width": 5, "rows": rows} for rows in ("0", "../" * 21 + "x", 5, None)),
        {"width": 5},
    ],
)
def test_a_join_json_that_describes_no_embedding_is_one_error(labels, noted) -> None:
    saved = dataclasses.replace(labels._saved, header={**labels._saved.header, "embedding": noted}, opened={})
    with pytest.raises(JoinError, match="embedding|describes no join"):
        dataclasses.replace(labels, _saved=saved).embedding([0])


def test_pooled_rows_and_averages_of_several_models_have_none(corpus, embedded, tmp_path) -> None:
    pooled = embedded.join(corpus.manifest, windows="max", canary=False)
    with pytest.raises(JoinError, match="windows='max' left no windows; join with windows='each'"):
        pooled.embedding([0])
    without = run(corpus, "without", "standin:embedded")
    finer = run(corpus, "finer", overlap_s=0.05)
    for stores, widths in (([embedded, without], "5, none"), ([without, finer], "none, 5")):
        labels = softlabels.join(stores, corpus.manifest, calibrate="none", canary=False)
        with pytest.raises(JoinError, match=f"all stores have the same model's, got widths of {widths}"):
            softlabels.make_dataset(labels, embedding=True)
    labels = softlabels.join([embedded, finer], corpus.manifest, calibrate="none", canary=False)
    expected = by_key(embedded, labels)
    np.testing.assert_array_equal(labels.embedding(), expected)
    saved = softlabels.load_labels(labels.save(tmp_path / "saved", embedding=True))
    np.testing.assert_array_equal(saved.embedding(), expected)


# In training


def test_every_form_of_batches_has_them_and_the_same_labels(labels) -> None:
    how = {"batch_size": 4, "shuffle": True, "seed": 3}
    plain, expected = [list(labels.as_pydataset(**how)[i]) for i in range(4)], []
    for i in range(4):
        x, y = labels.as_pydataset(**how, embedding=True)[i]
        np.testing.assert_array_equal(x, plain[i][0])
        np.testing.assert_array_equal(y["labels"], plain[i][1])
        np.testing.assert_array_equal(y["embedding"], labels.embedding(Batches(labels, BatchOptions(**how)).rows(i)))
        expected.append(y["embedding"])
    dataset = softlabels.make_dataset(labels, **how, embedding=True, workers=2)
    assert dataset.element_spec[1]["embedding"].shape.as_list() == [None, 5]
    for i, (x, y) in enumerate(dataset):
        np.testing.assert_array_equal(x, plain[i][0])
        np.testing.assert_array_equal(y["labels"], plain[i][1])
        np.testing.assert_array_equal(y["embedding"], expected[i])
    assert dataset.get_state()["position"] == 4
    for i, (_, y) in enumerate(labels.as_grain(**how, embedding=True)):
        np.testing.assert_array_equal(y["embedding"], expected[i])


def test_they_are_attached_to_crops_and_to_rows(labels) -> None:
    import tensorflow as tf

    crops = {"clip_id": ["c3", "c0"], "start_s": [0.13, 0.02], "x": [[1.0], [2.0]]}
    for element in (crops, {"row": [7, 0], "x": [[1.0], [2.0]]}):
        (got,) = tf.data.Dataset.from_tensors(element).map(softlabels.attach(labels, embedding=True))
        (plain,) = tf.data.Dataset.from_tensors(element).map(softlabels.attach(labels))
        np.testing.assert_array_equal(got[1]["labels"], plain[1])
        at = labels.embedding([7, 0]) if "row" in element else labels.embedding_at(["c3", "c0"], [0.13, 0.02])
        np.testing.assert_array_equal(got[1]["embedding"], at)


def test_reading_is_as_fast_as_copying(tmp_path) -> None:
    """Half the speed is promised and measured by `bench_embeddings.py`; here a fourth, on a busy machine."""
    from softlabels.kept.soft_file import open_soft

    values = np.random.default_rng(0).normal(size=(4096, 1024)).astype(np.float16)
    write_soft(tmp_path / "embedding-x.npy", values.shape, [values], dtype=HALF)
    kept = open_soft(tmp_path / "embedding-x.npy", values.shape, dtype=HALF, verify=True)
    rows, out = np.random.default_rng(1).permutation(4096), np.empty_like(values)
    read = least_seconds(lambda: kept.checked(rows).take(rows, axis=0, out=out, mode="clip"))
    np.testing.assert_array_equal(out, values[rows])
    assert read <= 4 * least_seconds(lambda: np.copyto(out, values))


# Exported


def test_the_teacher_cache_has_them_in_the_rows_of_the_labels(corpus, embedded, tmp_path) -> None:
    """Read by the rule of birdnet-stm32: the row of the nearest centre; rows that are not finite are left out."""
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, 3200).astype(np.float32)
    samples[900] = np.nan  # window 1 of c3 has no label
    corpus.write_samples("a9.wav", samples, subtype="FLOAT")  # a stem that comes before those of other clips
    corpus.write_manifest(corpus.manifest.read_text() + "c9,a9.wav,,train\n")
    store = label(corpus, teacher=EMBEDDED)
    export(store, "birdnet-stm32", tmp_path / "cache", classes=None)
    cache = TeacherCache(tmp_path / "cache")
    emb = np.load(tmp_path / "cache" / "emb.npy", mmap_mode="r")
    assert (emb.dtype, emb.shape) == (np.float16, (len(cache.mapped), 5))
    labels = store.join(corpus.manifest, canary=False)
    for i, key in enumerate(labels.keys.itertuples()):
        rows = cache.rows["a9" if key.clip_id == "c9" else key.clip_id]
        centres = cache.starts[rows] + 0.05
        nearest = rows.start + int(np.argmin(np.abs(centres - (key.start_s + 0.05))))
        np.testing.assert_array_equal(emb[nearest], labels.embedding([i])[0])
        np.testing.assert_allclose(cache.mapped[nearest], labels.soft([i])[0], rtol=2**-11, atol=2**-25)
    assert np.isnan(emb[cache.rows["a9"]][1]).all()
    assert np.isnan(emb).all(axis=1).sum() == 4
    export(run(corpus, "without", "standin:embedded"), "birdnet-stm32", tmp_path / "bare")
    assert not (tmp_path / "bare" / "emb.npy").exists()


def test_people_are_told_of_them(corpus, embedded, capsys) -> None:
    new = str(corpus.folder / "new")
    run_it = ["run", str(corpus.manifest), "--teacher", "standin:embedded", "--dry-run", "-o", new]
    forecasts = []
    for flags in ([], ["--embedding"]):
        assert main([*run_it, *flags]) == 0
        lines = capsys.readouterr().out.splitlines()
        forecasts.append([int(line.split()[1].replace(",", "")) for line in lines if line.startswith("bytes_")])
    assert len(forecasts[0]) == 3
    assert all(more > less for less, more in zip(*forecasts, strict=True))
    assert main(["inspect", str(embedded.storage.root)]) == 0
    assert re.search("^embedding +5$", capsys.readouterr().out, re.MULTILINE)
    assert main(["inspect", str(embedded.storage.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["embedding"] == 5
    assert "| embedding | 5 numbers a window" in (embedded.storage.root / "README.md").read_text()
    assert StandIn.digest == embedded.spec.teacher_digest
