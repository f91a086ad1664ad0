"""Labels for any crop: held against a slow reference that walks the windows one by one."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import Corpus, label

import softlabels
from softlabels import JoinError

WINDOW_S = 0.1


@pytest.fixture(params=[0.0, 0.05, 0.02])
def labels(request, corpus: Corpus) -> softlabels.JoinedLabels:
    corpus.write_manifest(corpus.manifest.read_text().replace("c5,c5.wav,,test", "c5,c5.wav,Aus aus_Alpha,test"))
    return label(corpus, overlap_s=request.param).join(corpus.manifest)


def reference(labels, clip_id: str, start_s: float, duration_s: float, how: str) -> np.ndarray:
    """One crop, in plain Python."""
    keys = labels.keys
    rows = keys.index[keys.clip_id == clip_id]
    starts = {row: round(keys.start_s[row] * 8000) for row in rows}
    start, length, window = round(start_s * 8000), round(duration_s * 8000), 800
    last = max(starts.values())
    if start < 0 or (start + length > last + window if how == "overlap" else start > last):
        return np.full(3, np.nan)
    soft = {row: labels.soft([row])[0].astype(np.float64) for row in rows}
    if how == "overlap":
        weight = {row: max(0, min(s + window, start + length) - max(s, start)) for row, s in starts.items()}
    elif how == "nearest":
        weight = {row: float(row == min(starts, key=lambda r: (abs(starts[r] - start), r))) for row in rows}
    else:
        hop = labels.window.hop_samples
        weight = {row: max(0.0, 1 - abs(s - start) / hop) for row, s in starts.items()}
    return sum(weight[row] * soft[row] for row in rows) / sum(weight.values())


@pytest.mark.parametrize("how", ["linear", "nearest", "overlap"])
def test_crops_are_what_the_slow_reference_says(labels, how: str) -> None:
    generator = np.random.default_rng(0)
    clip_ids = generator.choice(["c0", "c1", "c3", "c5"], 200).tolist()
    start_s = generator.uniform(-0.05, 0.4, 200)
    got = labels.soft_at(clip_ids, start_s, how=how)
    expected = [reference(labels, *crop, WINDOW_S, how) for crop in zip(clip_ids, start_s, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
    assert np.isnan(got[:, 0]).any()
    assert np.isfinite(got[:, 0]).any()


def test_crops_of_any_length_average_the_windows_they_overlap(labels) -> None:
    lengths = np.linspace(0.02, 0.35, 12)
    got = labels.soft_at(["c3"] * 12, 0.01, lengths, how="overlap")
    expected = [reference(labels, "c3", 0.01, length, "overlap") for length in lengths]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("how", ["linear", "nearest"])
def test_a_crop_that_starts_where_a_window_starts_is_that_window(labels, how: str) -> None:
    keys = labels.keys
    np.testing.assert_array_equal(labels.y_true_at(keys.clip_id, keys.start_s + 1e-7, how=how), labels.y_true())


@pytest.mark.parametrize("how", ["linear", "nearest"])
def test_a_crop_unlike_the_teachers_window_is_refused(labels, how: str) -> None:
    with pytest.raises(ValueError, match=r"expected crops of 0.1 s, the teacher's window, got 0.2 to 0.2 s; how='over"):
        labels.soft_at(["c3"], 0.0, 0.2, how=how)


def test_a_crop_whose_window_has_no_label_is_nan(corpus: Corpus) -> None:
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, 3200).astype(np.float32)
    samples[900] = np.nan  # in the second window of four
    corpus.write_samples("c3.wav", samples, subtype="FLOAT")
    labels = label(corpus).join(corpus.manifest)
    assert labels.report.windows_quarantined == 1
    got = labels.soft_at(["c3"] * 5, [0.0, 0.05, 0.1, 0.2, 0.25])
    assert np.isnan(got[:, 0]).tolist() == [False, True, True, False, False]
    np.testing.assert_allclose(got[4], labels.soft()[list(labels.keys.query("clip_id == 'c3'").index[1:])].mean(0))


def test_the_hard_label_of_a_crop_is_that_of_windows_which_agree(corpus: Corpus) -> None:
    (corpus.folder / "boxes.csv").write_text("clip_id,start_s,end_s,label\nc3,0.0,0.08,Aus aus_Alpha\n")
    labels = label(corpus).join(corpus.manifest, annotations=corpus.folder / "boxes.csv", annotated_extents="clips")
    hard = labels.y_true_at(["c3", "c3", "c3", "c0"], [0.0, 0.05, 0.15, 0.05])[:, :3]
    np.testing.assert_array_equal(hard, [[1, 0, 0], [np.nan, 0, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["nobody"], 0.0), "clip_ids: 'nobody' is not a clip of this join of 6"),
        ((["c0"], [0.0, 1.0]), "start_s: expected 1 finite numbers of seconds"),
        ((["c0"], np.nan), "start_s: expected 1 finite numbers of seconds"),
        ((["c0"], 0.0, [0.1, 0.1]), "duration_s: expected 1 finite numbers of seconds"),
    ],
)
def test_what_is_no_crop_is_refused(labels, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels.soft_at(*arguments)
    with pytest.raises(ValueError, match="how: expected one of 'linear', 'nearest', 'overlap', got 'cubic'"):
        labels.soft_at(["c0"], 0.0, how="cubic")


def test_pooled_rows_have_no_windows_to_interpolate(corpus: Corpus, store) -> None:
    with pytest.raises(JoinError, match="windows='max' left no windows to interpolate"):
        store.join(corpus.manifest, windows="max").soft_at(["c0"], 0.0)


def test_labels_are_attached_in_a_pipeline_by_clip_and_time(labels) -> None:
    crops = {"clip_id": ["c0", "c3", "c5"], "start_s": [0.0, 0.13, 0.07], "audio": np.arange(6.0).reshape(3, 2)}
    dataset = tf.data.Dataset.from_tensor_slices(crops).batch(2).map(softlabels.attach(labels))
    assert dataset.element_spec[1].shape.as_list() == [None, 6]
    batches = list(dataset.as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), crops["audio"])
    np.testing.assert_array_equal(
        np.concatenate([y for _, y in batches]), labels.y_true_at(crops["clip_id"], crops["start_s"])
    )


def test_labels_are_attached_in_a_pipeline_by_row_and_by_length(labels) -> None:
    by_row = tf.data.Dataset.from_tensor_slices({"row": [4, 0], "a": [1.0, 2.0], "b": [3.0, 4.0]}).batch(2)
    x, y_true = next(iter(by_row.map(softlabels.attach(labels))))
    assert sorted(x) == ["a", "b"]
    np.testing.assert_array_equal(y_true, labels.y_true([4, 0]))
    long = {"clip_id": ["c3"], "start_s": [0.0], "duration_s": [0.3], "audio": [0.0]}
    _, y_true = next(
        iter(tf.data.Dataset.from_tensor_slices(long).batch(1).map(softlabels.attach(labels, how="overlap")))
    )
    np.testing.assert_allclose(y_true[:, 3:], labels.soft_at(["c3"], 0.0, 0.3, how="overlap"))


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"clip_id": ["c0"], "audio": [0.0]}, r"expected a dictionary with 'clip_id' and 'start_s', or with 'row'"),
        ({"clip_id": ["c0"], "start_s": [0.0]}, "expected something to train on beside the key"),
    ],
)
def test_an_element_without_its_key_is_refused(labels, element: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"attach: {message}"):
        tf.data.Dataset.from_tensor_slices(element).batch(1).map(softlabels.attach(labels))


def test_labels_are_attached_to_batches_only(labels) -> None:
    with pytest.raises(ValueError, match="attach: expected batches"):
        tf.data.Dataset.from_tensor_slices({"row": [0], "x": [0.0]}).map(softlabels.attach(labels))


def test_a_crop_of_a_month_asks_for_no_memory(labels) -> None:
    assert np.isnan(labels.soft_at(["c3"] * 64, 0.0, 3e6, how="overlap")).all()


def test_crops_worked_on_one_by_one_or_all_at_once_have_the_same_bytes(corpus: Corpus, monkeypatch) -> None:
    (corpus.folder / "boxes.csv").write_text("clip_id,start_s,end_s,label\nc3,0.0,0.08,Aus aus_Alpha\n")
    boxes = {"annotations": corpus.folder / "boxes.csv", "annotated_extents": "clips"}
    labels = label(corpus, overlap_s=0.05).join(corpus.manifest, **boxes)
    crops = ["c3", "c0", "c5"] * 20, np.linspace(-0.02, 0.3, 60), 0.08
    at_once = labels.y_true_at(*crops, how="overlap")
    monkeypatch.setattr("softlabels.labels.reading.crops.BLOCK", 1)
    assert labels.y_true_at(*crops, how="overlap").tobytes() == at_once.tobytes()
