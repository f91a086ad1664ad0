"""Other people's formats, each read back by the tool it is for or by its format's own rules."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import Corpus, label

import softlabels
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from pipeline.exports import birdnet_stm32
from pipeline.exports.dataset_folder import dataset_card
from pipeline.exports.detections import _clock
from pipeline.exports.export import export
from softlabels import JoinError, SoftLabelStore, StoreError

CLASSES = ["Cus cus_Gamma", "Dus dus_Delta", "Aus aus_Alpha"]  # another order, and one that the stand-in lacks
HALF = {"rtol": 2**-11, "atol": 2**-25}  # half a step of float16, normal and subnormal
WINDOW_S = 0.1


@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "student.txt"
    path.write_text("".join(f"{name}\n" for name in CLASSES))
    return path


def with_a_quarantined_window(corpus: Corpus, **labelling: object) -> SoftLabelStore:
    """Window 1 of the four of c3 has no label."""
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, 3200).astype(np.float32)
    samples[900] = np.nan
    corpus.write_samples("c3.wav", samples, subtype="FLOAT")
    return label(corpus, **labelling)


# --- birdnet-stm32


class TeacherCache:
    """The cache as birdnet-stm32 documents it: a recording by its file stem, a chunk by the nearest centre."""

    def __init__(self, folder: Path) -> None:
        self.meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.mapped = np.load(folder / "mapped.npy", mmap_mode="r")
        self.starts = np.load(folder / "starts.npy")
        with np.load(folder / "index.npz") as index:
            columns = [index[name].tolist() for name in ("sample_id", "row_offset", "n_windows")]
        self.rows = {stem: slice(first, first + n) for stem, first, n in zip(*columns, strict=True)}

    def look_up(self, stem: str, start_s: float, duration_s: float) -> np.ndarray:
        """(classes,) float16."""
        rows = self.rows[stem]
        centres = self.starts[rows] + self.meta["teacher_window_s"] / 2
        return self.mapped[rows][int(np.argmin(np.abs(centres - (start_s + duration_s / 2))))]


def test_a_chunk_looked_up_in_the_teacher_cache_gets_the_stored_probabilities(corpus, tmp_path, student) -> None:
    corpus.write_manifest(corpus.manifest.read_text() + "c3 again,c3.wav,,train\n")
    corpus.write_audio("sub/c9.wav", 0.35, seed=9)
    corpus.write_manifest(corpus.manifest.read_text() + "c9,sub/c9.wav,,train\n")
    store = label(corpus, overlap_s=0.06)
    done = export(store, "birdnet-stm32", tmp_path / "cache", classes=student)
    cache = TeacherCache(tmp_path / "cache")
    assert cache.mapped.dtype == np.float16
    assert cache.mapped.shape == (len(store), 3) == (done.rows, 3)
    assert cache.starts.dtype == np.float32
    assert cache.meta == {"classes": CLASSES, "teacher_mask": [True, False, True], "teacher_window_s": WINDOW_S}
    assert sorted(cache.rows) == ["c0", "c1", "c2", "c3", "c4", "c5", "c9"]
    for row in store.to_pandas().itertuples():
        for off_s, chunk_s in [(0, WINDOW_S), (0.015, WINDOW_S), (-0.015, WINDOW_S), (0.025, 0.05)]:
            found = cache.look_up(row.clip_id.removesuffix(" again"), row.start_s + off_s, chunk_s)
            np.testing.assert_allclose(found, row.probabilities[[2, 0, 0]] * [1, 0, 1], **HALF)
    assert any("1 classes keep their hard label" in note for note in done.notes)


def test_a_window_without_a_label_says_nothing_in_the_cache_instead_of_its_neighbour(corpus, tmp_path) -> None:
    store = with_a_quarantined_window(corpus)
    export(store, "birdnet-stm32", tmp_path / "cache")
    cache = TeacherCache(tmp_path / "cache")
    assert np.isnan(cache.look_up("c3", 0.1, 0.1)).all()
    for window in (0, 2, 3):
        np.testing.assert_allclose(cache.look_up("c3", window / 10, 0.1), store.take([("c3", window)])[0], **HALF)


def test_recordings_of_one_stem_are_refused_and_named(corpus, tmp_path) -> None:
    corpus.write_audio("far/c0.flac", 0.1, seed=7)
    corpus.write_manifest(corpus.manifest.read_text() + "other,far/c0.flac,,train\n")
    with pytest.raises(StoreError, match=r"1 file names .* got 'c0.wav' and 'far/c0.flac'; rename the files"):
        export(label(corpus), "birdnet-stm32", tmp_path / "cache")
    assert not list(tmp_path.glob("*cache*"))


def test_a_hop_wider_than_the_students_grid_is_advised_against(corpus, store, tmp_path, monkeypatch) -> None:
    assert export(store, "birdnet-stm32", tmp_path / "fine").notes == ()
    monkeypatch.setattr(birdnet_stm32, "HOP_S", 0.04)
    (note,) = export(store, "birdnet-stm32", tmp_path / "wide").notes
    assert "a window every 0.1 s" in note
    assert "`softlabels run --overlap 0.06`" in note


# --- detections


def expected_detections(store: SoftLabelStore, classes: list[str], threshold: float) -> pd.DataFrame:
    """Window by window, one after the other."""
    lengths = {clip.clip_id: clip.end / clip.rate_hz for clip in store.planned_by_clip().values()}
    rows = []
    for row in store.to_pandas().itertuples():
        p = dict(zip(store.classes, row.probabilities.tolist(), strict=True))
        heard = [(-p[name], classes.index(name)) for name in classes if p.get(name, -1) >= threshold]
        end_s = min(row.end_s, lengths[row.clip_id])
        rows += [(f"{row.clip_id}.wav", row.start_s, end_s, classes[i], -minus) for minus, i in sorted(heard)]
    return pd.DataFrame(rows, columns=["input", "start_time", "end_time", "species_name", "confidence"])


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_detections_as_parquet_are_what_the_store_says(corpus, tmp_path, student, layout) -> None:
    store = with_a_quarantined_window(corpus, layout=layout)
    done = export(store, "detections", tmp_path / "d.parquet", classes=student, threshold=0.25)
    expected = expected_detections(store, CLASSES, 0.25)
    assert done.rows == len(expected) > 13
    found = pd.read_parquet(tmp_path / "d.parquet")
    texts = dict.fromkeys(["input", "species_name"], object)
    assert found.confidence.dtype == np.float32
    pd.testing.assert_frame_equal(found.astype(texts), expected.astype(texts), check_dtype=False, rtol=0, atol=1e-12)
    metadata = pq.read_schema(tmp_path / "d.parquet").metadata
    assert (metadata[b"segment_duration_s"], metadata[b"n_species"]) == (b"0.1", b"3")


def test_detections_as_csv_have_birdnets_columns_clock_and_six_decimals(corpus, store, tmp_path) -> None:
    export(store, "detections", tmp_path / "d.csv")
    expected = expected_detections(store, list(store.classes), 0.1)
    found = pd.read_csv(tmp_path / "d.csv", dtype={"input": str})
    assert list(found) == list(expected)
    for name in ("start_time", "end_time"):
        seconds = pd.to_timedelta(found[name]).dt.total_seconds()
        np.testing.assert_allclose(seconds, expected[name], atol=0.005 + 1e-9)
        assert found[name].str.fullmatch(r"\d\d:\d\d:\d\d\.\d\d").all()
    assert (found.input == expected.input).all()
    assert (found.species_name == expected.species_name).all()
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=0.5e-6 + 1e-9)
    first = (tmp_path / "d.csv").read_text().splitlines()[1]
    assert first.startswith('"c0.wav","00:00:00.00","00:00:00.10","')


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [(0, "00:00:00.00"), (59.999, "00:01:00.00"), (3661.5, "01:01:01.50"), (360_000, "100:00:00.00")],
)
def test_times_are_written_as_birdnet_writes_them(seconds: float, clock: str) -> None:
    assert _clock(seconds) == clock


def test_a_name_with_a_comma_and_quotes_is_read_back(corpus, tmp_path) -> None:
    corpus.write_audio('odd, "one".wav', 0.1, seed=1)
    corpus.write_manifest('clip_id,path\nodd,"odd, ""one"".wav"\n')
    export(label(corpus), "detections", tmp_path / "d.csv", threshold=0)
    assert set(pd.read_csv(tmp_path / "d.csv").input) == {'odd, "one".wav'}


# --- hf


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return pytest.importorskip("datasets", reason="needs `pip install datasets`")


def test_a_dataset_folder_is_loaded_by_datasets_with_and_without_its_card(corpus, tmp_path, datasets) -> None:
    store = with_a_quarantined_window(corpus)
    (store.storage.root / "shards" / "00000-ffffffffffff.parquet").write_bytes(b"left by a killed run")
    done = export(store, "hf", tmp_path / "out")
    expected = store.to_pandas()
    files = str(tmp_path / "out" / "shards" / "*.parquet")
    for rows in (
        datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=tmp_path / "a"),
        datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=tmp_path / "b"),
    ):
        assert len(rows) == done.rows == len(expected) == 13
        assert rows["clip_id"][:] == expected.clip_id.tolist()
        assert rows["window_index"][:] == expected.window_index.tolist()
        np.testing.assert_array_equal(np.array(rows["probabilities"][:], np.float32), np.stack(expected.probabilities))


def test_a_dataset_folder_is_still_a_store(corpus, tmp_path) -> None:
    store = with_a_quarantined_window(corpus)
    export(store, "hf", tmp_path / "out")
    copy = softlabels.open(tmp_path / "out")
    assert copy.is_closed()
    assert verify(copy).good
    labels, expected = copy.join(corpus.manifest, root=corpus.folder), store.join(corpus.manifest)
    np.testing.assert_array_equal(labels.y_true(), expected.y_true())
    assert not (tmp_path / "out" / "run.json").exists(), "it names folders of this machine"


def test_a_store_that_grew_since_it_was_opened_is_copied_as_it_is_now(corpus, store, tmp_path) -> None:
    assert len(store) == 14  # and so much it goes on to say
    corpus.write_audio("new.wav", 0.5, seed=8)
    corpus.write_manifest(corpus.manifest.read_text() + "new,new.wav,,train\n")
    grown = label(corpus)
    assert export(store, "hf", tmp_path / "out").rows == len(grown) == 19
    assert verify(softlabels.open(tmp_path / "out")).good


def test_the_card_tells_the_hub_and_keeps_what_the_store_says_of_itself(store) -> None:
    card = dataset_card(store, 2_500_000)
    _, header, text = card.split("---\n", 2)
    assert "path: shards/*.parquet" in header
    assert "- 1M<n<10M" in header
    assert 'pretty_name: "Soft labels by stand-in"' in header
    assert store.storage.get("README.md").decode() in text


@pytest.mark.parametrize(("rows", "size"), [(1, "n<1K"), (1000, "1K<n<10K"), (10**12, "100B<n<1T")])
def test_the_size_is_one_of_the_hubs_names(store, rows: int, size: str) -> None:
    assert f"- {size}\n" in dataset_card(store, rows)


# --- all of them


@pytest.mark.parametrize(("to", "name"), [("birdnet-stm32", "out"), ("detections", "out.csv"), ("hf", "out")])
def test_a_damaged_shard_is_named_and_nothing_is_left(corpus, store, tmp_path, to: str, name: str) -> None:
    shard = sorted((store.storage.root / "shards").iterdir())[2]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(StoreError, match=r"shard 2 .*digest mismatch.*`softlabels regenerate"):
        export(store, to, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("to", "name", "options", "complaint"),
    [
        ("csv", "out", {}, "--to: expected one of birdnet-stm32, detections, hf"),
        ("detections", "out", {}, "a file ending in .csv or .parquet"),
        ("hf", "out", {"threshold": 0.5}, "--threshold goes with --to detections"),
        ("detections", "out.csv", {"threshold": 1.5}, "a probability from 0 to 1, got 1.5"),
        ("hf", "out", {"classes": "x.txt"}, "--to hf copies the store with all its classes"),
        ("hf", "corpus", {}, "is there already"),
    ],
)
def test_what_does_not_fit_is_refused(corpus, store, tmp_path, to, name, options, complaint) -> None:
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match=complaint):
        export(store, to, tmp_path / name, **options)
    assert sorted(os.listdir(tmp_path)) == before


def test_classes_that_are_not_the_teachers_are_refused(corpus, store, tmp_path) -> None:
    (tmp_path / "strange.txt").write_text("Xus xus_Xi\nYus yus_Ypsilon\n")
    with pytest.raises(JoinError, match="only 0 of the 2 classes"):
        export(store, "detections", tmp_path / "d.csv", classes=tmp_path / "strange.txt")


def test_a_store_without_any_label_is_refused(corpus, tmp_path) -> None:
    for i in range(6):
        (corpus.folder / f"c{i}.wav").write_bytes(b"no audio")  # all files gone would be a wrong root
    with pytest.raises(StoreError, match="no window is labelled yet"):
        export(label(corpus), "birdnet-stm32", tmp_path / "cache")


def test_export_from_the_command_line_says_what_was_written_and_what_is_missing(
    corpus, store, tmp_path, capsys
) -> None:
    root = store.storage.root
    assert main(["export", str(root), "--to", "detections", "-o", str(tmp_path / "d.csv")]) == 0
    assert f"written      {tmp_path / 'd.csv'}" in capsys.readouterr().out
    (root / "receipts" / "00003.g0.json").unlink()
    assert main(["export", str(root), "--to", "birdnet-stm32", "-o", str(tmp_path / "cache")]) == 1
    printed = capsys.readouterr()
    assert "rows         14\nlabelled     11\nquarantined  0\nmissing      3\n" in printed.out
    assert "3 windows are not labelled yet" in printed.err
    assert np.isnan(TeacherCache(tmp_path / "cache").look_up("c5", 0, 0.1)).all()
    assert main(["export", str(root), "--to", "hf", "-o", str(tmp_path / "cache")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_store_is_read_shard_by_shard_and_progress_is_told(store, tmp_path) -> None:
    for to, name in [("birdnet-stm32", "cache"), ("detections", "d.parquet"), ("hf", "out")]:
        told: list[int] = []
        export(store, to, tmp_path / name, on_windows=told.append)
        assert (len(told), sum(told)) == (4, 14)


def test_the_same_store_exports_the_same_bytes(store, tmp_path) -> None:
    for to, name in [("birdnet-stm32", "cache"), ("detections", "d.csv"), ("hf", "out")]:
        export(store, to, tmp_path / "1" / name)
        export(softlabels.open(store.storage.root), to, tmp_path / "2" / name)
    first, second = (
        {p.relative_to(top): p.read_bytes() for p in top.rglob("*") if p.is_file()}
        for top in (tmp_path / "1", tmp_path / "2")
    )
    assert first == second


def test_a_file_name_that_no_disk_has_is_refused(corpus, store, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(birdnet_stm32, "LONGEST_NAME", 1)
    with pytest.raises(StoreError, match="a file name of 2 characters, expected at most 1"):
        export(store, "birdnet-stm32", tmp_path / "cache")
