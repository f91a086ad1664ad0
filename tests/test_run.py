"""The whole job with the stand-in teacher: what ends where, and that nothing but the inputs changes a byte."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, label, shard_bytes
from standin import StandIn

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions
from pipeline.checking.verify import verify
from pipeline.teachers.scoring import wide_probabilities
from softlabels import ClassListError, ManifestError, StoreError, TeacherError
from softlabels.audio.decode import read_audio
from softlabels.records.shard import round_probabilities

WINDOWS = {"c0": 3, "c1": 1, "c2": 3, "c3": 4, "c4": 1, "c5": 2}
SMALL_SHARDS = LabelOptions(shard_windows=4)


def run(corpus: Corpus, store: str = "store", **options: object) -> pipeline.RunSummary:
    here = RunOptions(backend="loky" if "jobs" in options else "sequential")
    options = {"teacher": "standin:teacher", "labelling": SMALL_SHARDS, "options": here, **options}
    return pipeline.run(corpus.manifest, corpus.folder / store, **options)


def test_every_window_is_labelled_with_what_the_teacher_says(corpus: Corpus) -> None:
    summary = run(corpus)
    assert (summary.clips, summary.windows, summary.labelled, summary.quarantined) == (6, 14, 14, 0)
    frame = softlabels.open(corpus.folder / "store").to_pandas()
    assert frame.groupby("clip_id").size().to_dict() == WINDOWS
    teacher = StandIn()
    for _, row in frame.iterrows():
        samples = read_audio(corpus.folder / f"{row.clip_id}.wav", rate_hz=8000)
        window = np.zeros(800, np.float32)
        part = samples[row.window_index * 800 : row.window_index * 800 + 800]
        window[: len(part)] = part
        expected = round_probabilities(wide_probabilities(teacher.score(window[None]), "sigmoid").astype(np.float32))[0]
        np.testing.assert_array_equal(row.probabilities, expected)
        assert row.start_s == pytest.approx(row.window_index * 0.1)
        assert row.pad_fraction == np.float32(1 - len(part) / 800)


def test_jobs_order_and_interruption_change_no_byte(corpus: Corpus) -> None:
    run(corpus, "one", jobs=1)
    run(corpus, "four", jobs=4)
    lines = corpus.manifest.read_text().splitlines(keepends=True)
    corpus.write_manifest(lines[0] + "".join(reversed(lines[1:])))
    run(corpus, "reversed", jobs=2)
    one = shard_bytes(corpus.folder / "one")
    assert len(one) == 4
    assert shard_bytes(corpus.folder / "four") == one
    assert shard_bytes(corpus.folder / "reversed") == one


def test_resume_labels_only_the_missing_shards(corpus: Corpus) -> None:
    run(corpus)
    store = corpus.folder / "store"
    before = shard_bytes(store)
    for shard in (1, 2):
        (store / "receipts" / f"0000{shard}.g0.json").unlink()
    (store / "_SUCCESS-0001.json").unlink()
    kept = next(iter((store / "shards").glob("00000*"))).stat().st_mtime_ns
    summary = run(corpus)
    assert summary.shards_done == 2
    assert shard_bytes(store) == before
    assert next(iter((store / "shards").glob("00000*"))).stat().st_mtime_ns == kept
    assert (store / "_SUCCESS-0001.json").is_file()


def test_a_run_killed_right_after_planning_goes_on_with_its_plan(corpus: Corpus, monkeypatch) -> None:
    def killed(self, *_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.running.run._Shift.work", killed)
        with pytest.raises(KeyboardInterrupt):
            run(corpus)
    assert len(softlabels.open(corpus.folder / "store")) == 0
    assert run(corpus, labelling=None).labelled == 14
    run(corpus, "calm")
    assert shard_bytes(corpus.folder / "store") == shard_bytes(corpus.folder / "calm")
    assert len(list((corpus.folder / "store" / "plan").iterdir())) == 1


def test_a_shard_file_that_is_gone_or_cut_short_is_made_again(corpus: Corpus) -> None:
    run(corpus)
    store = corpus.folder / "store"
    before = shard_bytes(store)
    first, second = sorted((store / "shards").iterdir())[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-10])
    assert run(corpus).shards_done == 2
    assert shard_bytes(store) == before


def test_a_second_run_does_nothing(corpus: Corpus) -> None:
    first = run(corpus)
    tree = {p: p.read_bytes() for p in (corpus.folder / "store").rglob("*") if p.is_file()}
    second = run(corpus)
    assert (second.shards_done, second.new_windows) == (0, 0)
    assert dataclasses.replace(second, shards_done=first.shards_done, new_windows=first.new_windows) == first
    assert {p: p.read_bytes() for p in (corpus.folder / "store").rglob("*") if p.is_file()} == tree


def test_bad_clips_are_quarantined_and_their_neighbours_do_not_notice(corpus: Corpus) -> None:
    run(corpus, "good", labelling=LabelOptions(shard_windows=2))
    (corpus.folder / "c1.wav").unlink()
    (corpus.folder / "c3.wav").write_bytes(b"")
    (corpus.folder / "c5.wav").write_text("this is no audio at all")
    summary = run(corpus, "bad", labelling=LabelOptions(shard_windows=2))
    store = softlabels.open(corpus.folder / "bad")
    assert {q.clip_id: q.reason for q in store.census.quarantine} == {
        "c1": "missing",
        "c3": "empty",
        "c5": "unsupported-container",
    }
    assert (summary.labelled, summary.quarantined, summary.missing) == (3 + 3 + 1, 3, 0)
    good = softlabels.open(corpus.folder / "good")
    keys = [(clip, k) for clip in ("c0", "c2", "c4") for k in range(WINDOWS[clip])]
    np.testing.assert_array_equal(store.take(keys), good.take(keys))


def test_a_clip_that_comes_back_is_labelled_by_the_next_run(corpus: Corpus) -> None:
    saved = (corpus.folder / "c3.wav").read_bytes()
    (corpus.folder / "c3.wav").unlink()
    assert run(corpus).quarantined == 1
    (corpus.folder / "c3.wav").write_bytes(saved)
    summary = run(corpus)
    assert (summary.new_windows, summary.quarantined, summary.labelled) == (4, 0, 14)
    assert sorted(p.name for p in (corpus.folder / "store").glob("_SUCCESS*")) == [
        "_SUCCESS-0001.json",
        "_SUCCESS-0002.json",
    ]


def test_not_finite_audio_and_teachers_spoil_only_their_window(corpus: Corpus) -> None:
    samples = np.full(2400, 0.25, np.float32)
    samples[100] = np.nan
    samples[1600] = 0.5
    corpus.write_samples("c0.wav", samples, subtype="FLOAT")
    run(corpus, teacher="standin:not_finite")
    store = softlabels.open(corpus.folder / "store")
    found = [(q.clip_id, q.first_window, q.windows, q.reason) for q in store.census.quarantine]
    assert found == [("c0", 0, 1, "not-finite-audio"), ("c0", 2, 1, "not-finite-teacher")]
    assert store.take([("c0", 1)]).shape == (1, 3)


def test_a_clip_that_fails_halfway_leaves_no_row(corpus: Corpus) -> None:
    corpus.write_audio("c2.flac", 20.0, seed=9)
    data = (corpus.folder / "c2.flac").read_bytes()
    (corpus.folder / "c2.wav").write_bytes(data[: len(data) // 2])
    run(corpus, labelling=LabelOptions(shard_windows=256))
    store = softlabels.open(corpus.folder / "store")
    assert [(q.clip_id, q.windows) for q in store.census.quarantine] == [("c2", 200)]
    assert "c2" not in set(store.to_pandas().clip_id)


def test_on_error_fail_commits_no_shard_with_a_quarantined_window(corpus: Corpus) -> None:
    (corpus.folder / "c0.wav").unlink()
    summary = run(corpus, options=RunOptions(backend="sequential", on_error="fail"))
    assert summary.stopped.startswith("--on-error fail: c0: missing")
    assert summary.quarantined == 0
    assert 0 in softlabels.open(corpus.folder / "store").missing_shards()


def test_a_store_grows_with_its_manifest_and_keeps_what_it_has(corpus: Corpus) -> None:
    run(corpus)
    before = shard_bytes(corpus.folder / "store")
    corpus.write_audio("a0.wav", 0.2, seed=7)
    text = corpus.manifest.read_text()
    corpus.write_manifest(text.replace("c5,c5.wav,,test\n", "") + "a0,a0.wav,noise,train\n")
    summary = run(corpus, labelling=None)
    assert (summary.new_windows, summary.left, summary.labelled) == (2, 1, 16)
    after = shard_bytes(corpus.folder / "store")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


def test_relabelling_or_moving_files_does_not_touch_the_store(corpus: Corpus) -> None:
    run(corpus)
    os.rename(corpus.folder / "c0.wav", corpus.folder / "moved.wav")
    text = corpus.manifest.read_text().replace("c0,c0.wav,Aus aus_Alpha", "c0,moved.wav,noise")
    corpus.write_manifest(text)
    assert run(corpus).shards_done == 0


def test_changed_audio_of_a_labelled_clip_is_refused_by_name(corpus: Corpus) -> None:
    run(corpus)
    corpus.write_audio("c3.wav", 0.4, seed=99)
    with pytest.raises(StoreError, match="of 1 labelled clips has changed: 'c3'.*new clip_ids"):
        run(corpus)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"teacher": "standin:not_finite"}, "--teacher standin:not_finite here, standin:teacher in the store"),
        ({"labelling": LabelOptions(overlap_s=0.05)}, "--overlap 0.05 here, 0 in the store"),
        ({"labelling": LabelOptions(layout="sparse")}, "--layout sparse here, dense in the store"),
        ({"labelling": LabelOptions(shard_windows=8)}, "--shard-windows 8 here, 4 in the store"),
    ],
)
def test_other_settings_are_refused_by_name(corpus: Corpus, change: dict, named: str) -> None:
    run(corpus)
    with pytest.raises(StoreError, match=f"made with other settings: .*{named}"):
        run(corpus, **change)


def test_a_teacher_that_breaks_its_promise_is_named(corpus: Corpus) -> None:
    with pytest.raises(TeacherError, match=r"'stand-in': expected \(4, 3\) float32 scores.*got \(4, 2\)"):
        run(corpus, teacher="standin:wrong_width")


@pytest.mark.parametrize(
    ("teacher", "complaint"),
    [
        ("perch", "'perch': expected birdnet, birdnet-v3, perch-v2, nighthawk, litert, keras, onnx or module:factory"),
        ("standin:nobody", "expected a function 'nobody'"),
        ("no_such_module:x", "No module named"),
        ("standin:no_teacher", "object lacks name, digest"),
    ],
)
def test_an_unknown_teacher_is_a_clear_error_and_nothing_is_written(
    corpus: Corpus, teacher: str, complaint: str
) -> None:
    with pytest.raises(TeacherError, match=complaint):
        run(corpus, teacher=teacher)
    assert not (corpus.folder / "store").exists()


def test_a_faulty_manifest_writes_nothing(corpus: Corpus) -> None:
    corpus.write_manifest("clip_id,path\na,a.wav\na,b.wav\n")
    with pytest.raises(ManifestError):
        run(corpus)
    assert not (corpus.folder / "store").exists()


def test_a_folder_with_other_things_is_not_taken_for_a_store(corpus: Corpus) -> None:
    (corpus.folder / "store").mkdir()
    (corpus.folder / "store" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"holds other things \('thesis.txt'\)"):
        run(corpus)


def test_a_link_out_of_the_root_is_not_followed(corpus: Corpus, tmp_path) -> None:
    outside = Corpus(tmp_path / "outside").write_audio("secret.wav")
    (corpus.folder / "c0.wav").unlink()
    (corpus.folder / "c0.wav").symlink_to(outside)
    run(corpus)
    assert softlabels.open(corpus.folder / "store").census.quarantine[0].reason == "outside-root"


def test_receipts_say_what_was_heard_and_hold_no_clock_or_path(corpus: Corpus) -> None:
    run(corpus, "one")
    run(corpus, "two", jobs=2)
    texts = [{p.name: p.read_text() for p in (corpus.folder / s / "receipts").iterdir()} for s in ("one", "two")]
    assert texts[0] == texts[1]
    receipt = json.loads(texts[0]["00000.g0.json"])
    assert set(receipt["audio"]["c0"]) == {"file", "pcm"}
    assert str(corpus.folder) not in texts[0]["00000.g0.json"]
    assert receipt["environment"]["pyarrow"]


def test_the_store_says_which_packages_made_it_and_lists_its_quarantine(corpus: Corpus) -> None:
    (corpus.folder / "c1.wav").write_bytes(b"")
    run(corpus)
    pinned = dict(line.split("==") for line in (corpus.folder / "store" / "requirements.txt").read_text().splitlines())
    assert {"softlabels", "numpy", "pyarrow", "soxr", "soundfile", "ai-edge-litert"} <= set(pinned)
    rows = (corpus.folder / "store" / "quarantine.csv").read_text().splitlines()
    assert rows == ["clip_id,first_window,windows,reason,detail", "c1,0,1,empty,the file has 0 bytes"]


def test_two_runs_on_one_store_at_once_make_what_one_makes(corpus: Corpus) -> None:
    for i in range(40):
        corpus.write_audio(f"more/{i:02d}.wav", 0.3, seed=i)
    rows = "".join(f"m{i:02d},more/{i:02d}.wav,,\n" for i in range(40))
    corpus.write_manifest(corpus.manifest.read_text() + rows)
    run(corpus, "calm")
    code = (
        "import sys, pipeline\n"
        "pipeline.run(sys.argv[1], sys.argv[2], teacher='standin:teacher', "
        "labelling=pipeline.LabelOptions(shard_windows=4), options=pipeline.RunOptions(backend='sequential'))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY)])}
    command = [sys.executable, "-c", code, corpus.manifest, corpus.folder / "both"]
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, printed = process.communicate(timeout=120)
        assert process.returncode == 0, printed
    assert shard_bytes(corpus.folder / "both") == shard_bytes(corpus.folder / "calm")
    assert verify(softlabels.open(corpus.folder / "both"), jobs=1).good


def test_clips_of_one_file_are_cut_where_the_manifest_says(corpus: Corpus) -> None:
    corpus.write_manifest("clip_id,path,start_s,end_s\na,c3.wav,0.1,0.25\nb,c3.wav,,\n")
    run(corpus)
    store = softlabels.open(corpus.folder / "store")
    frame = store.to_pandas().set_index(["clip_id", "window_index"])
    assert frame.loc[("a", 0)].start_s == pytest.approx(0.1)
    np.testing.assert_array_equal(frame.loc[("a", 0)].probabilities, frame.loc[("b", 1)].probabilities)
    assert frame.loc[("a", 1)].pad_fraction == 0.5


def test_overlap_gives_more_windows_on_the_same_samples(corpus: Corpus) -> None:
    run(corpus, labelling=LabelOptions(overlap_s=0.05))
    store = softlabels.open(corpus.folder / "store")
    frame = store.to_pandas().set_index(["clip_id", "window_index"])
    assert len(frame.loc["c0"]) == 5
    plain = run(corpus, "plain")
    assert plain.labelled == 14
    before = softlabels.open(corpus.folder / "plain").take([("c0", 1)])
    np.testing.assert_array_equal(store.take([("c0", 2)]), before)


def test_a_sparse_store_reads_like_a_dense_one(corpus: Corpus) -> None:
    run(corpus, "dense")
    run(corpus, "sparse", labelling=LabelOptions(layout="sparse", min_probability=0.2))
    dense, sparse = (softlabels.open(corpus.folder / s).to_pandas() for s in ("dense", "sparse"))
    for a, b in zip(dense.probabilities, sparse.probabilities, strict=True):
        kept = a > 0.2
        np.testing.assert_array_equal(a[kept], b[kept])
        np.testing.assert_allclose(b.sum(), a.sum(), rtol=1e-6)
    assert run(corpus, "sparse", labelling=None).shards_done == 0, "the store remembers its layout"


def test_softmax_and_sigmoid_are_computed_in_float64() -> None:
    logits = np.array([[-800, 0, 3.5], [90, 89, -90]], np.float32)
    wide = logits.astype(np.float64)
    np.testing.assert_array_equal(
        wide_probabilities(logits, "sigmoid").astype(np.float32),
        np.array([[0, 0.5, 1 / (1 + np.exp(-3.5))], [1, 1, np.exp(-90)]], np.float32),
    )
    expected = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        wide_probabilities(logits, "softmax").astype(np.float32), expected.astype(np.float32), rtol=1e-6
    )


def test_jitters_and_kept_classes_are_settings_of_a_store(corpus: Corpus, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("Cus cus\nAus aus_Alpha\n")
    everything = label(corpus, jitters=2)
    (corpus.folder / "store").rename(tmp_path / "everything")
    some = label(corpus, jitters=2, keep_classes=tmp_path / "mine.txt")
    assert (some.spec.jitters, list(some.classes)) == (2, ["Cus cus_Gamma", "Aus aus_Alpha"])
    assert some.spec.teacher_class_digest == everything.classes.digest
    whole, kept = softlabels.open(tmp_path / "everything").to_pandas(), some.to_pandas()
    np.testing.assert_array_equal(np.stack(kept.probabilities), np.stack(whole.probabilities)[:, [2, 0]])
    assert verify(some, recompute=1.0).good
    dropped = np.stack(whole.probabilities)[:, 1]
    np.testing.assert_allclose(kept.dropped_sum, dropped, rtol=2**-8)


def test_a_store_keeps_its_jitters_and_classes_when_it_grows_and_refuses_others(corpus: Corpus, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("Cus cus\nAus aus_Alpha\n")
    label(corpus, jitters=2, keep_classes=tmp_path / "mine.txt", layout="sparse", min_probability=0.3)
    corpus.write_audio("c6.wav", 0.2, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,,train\n")
    grown = label(corpus)
    assert (len(grown), grown.spec.jitters, len(grown.classes)) == (16, 2, 2)
    for other in ({"jitters": 3}, {"keep_classes": _file(tmp_path, "Aus aus_Alpha\n")}):
        said = "--jitters 3 here, 2 in the store|--keep-classes: 1 here, 2 in the store"
        with pytest.raises(StoreError, match=f"was made with other settings: ({said})"):
            label(corpus, **other)


def test_a_store_is_compressed_as_it_was_begun(corpus: Corpus, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.planning.prepare.ZSTD_LEVEL", 6)  # as before there was a choice
    older = label(corpus)
    monkeypatch.undo()
    assert "zstd_level" not in (older.storage.root / "store.json").read_text()
    before = shard_bytes(older.storage.root)
    corpus.write_audio("c6.wav", 0.2, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,,train\n")
    grown = label(corpus)
    assert (len(grown), grown.spec.zstd_level) == (16, 6)
    assert before.items() <= shard_bytes(grown.storage.root).items()
    assert verify(grown, recompute=1.0).good
    run(corpus, "new")
    assert softlabels.open(corpus.folder / "new").spec.zstd_level == 1


def test_kept_classes_that_the_teacher_lacks_are_refused(corpus: Corpus, tmp_path) -> None:
    with pytest.raises(ClassListError, match="--keep-classes .*lacks 1 of them: 'Dus dus'; `softlabels classes LIST`"):
        label(corpus, keep_classes=_file(tmp_path, "Aus aus_Alpha\nDus dus\n"))


def _file(folder, text: str):
    path = folder / "other.txt"
    path.write_text(text)
    return path
