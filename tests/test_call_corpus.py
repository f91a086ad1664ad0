"""The second corpus, of calls: clips are a function of class, seed and settings, and no class is one of the songs'."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from conftest import REPOSITORY

import pipeline
import softlabels
from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.description import read_labels

RATE_HZ = 24_000


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "benchmarks")


def test_ten_classes_that_birdnet_has_and_the_songs_do_not() -> None:
    from calls import CALLERS

    labels = {caller.label for caller in CALLERS}
    songs = (REPOSITORY / "tests" / "corpus" / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert len(labels) == len({caller.slug for caller in CALLERS}) == 10
    assert labels.isdisjoint(songs)
    assert labels <= set(read_labels(find_birdnet()[1]))


def test_a_clip_is_a_function_of_class_seed_and_settings() -> None:
    from call_corpus import TEST, TRAIN, synthesise
    from calls import CALLERS

    made = {}
    for kind, caller in enumerate((*CALLERS, None)):
        one = synthesise(caller, (5, kind, 0), TRAIN)
        assert np.array_equal(one, synthesise(caller, (5, kind, 0), TRAIN))
        made |= {(kind, "one"): one, (kind, "other"): synthesise(caller, (5, kind, 4), TRAIN)}
        made[kind, "test"] = synthesise(caller, (5, kind, 0), TEST)
    assert len({samples.tobytes() for samples in made.values()}) == len(made) == 33
    assert {samples.shape for samples in made.values()} == {(3 * RATE_HZ,)}
    assert all(100 < np.abs(samples.astype(int)).max() < 32_000 for samples in made.values())


@pytest.mark.parametrize("kind", range(10))
def test_a_long_clip_holds_one_short_bout_and_a_short_clip_begins_early(kind) -> None:
    from call_corpus import LONG, TRAIN, bout
    from calls import CALLERS

    firsts = []
    for seed in range(6):
        sounding = np.flatnonzero(bout(CALLERS[kind], np.random.default_rng(seed), LONG))
        assert sounding[-1] - sounding[0] < 4 * RATE_HZ
        firsts.append(sounding[0])
        assert np.flatnonzero(bout(CALLERS[kind], np.random.default_rng(seed), TRAIN))[0] < RATE_HZ // 2 + 10
    assert max(firsts) - min(firsts) > 5 * RATE_HZ


def test_individuals_differ_where_pitch_and_tempo_do_not() -> None:
    from calls import Individual, eurasian_nightjar

    lengths = {
        len(eurasian_nightjar(Individual(rng=np.random.default_rng(seed), pitch=1.0, tempo=1.0)).wave)
        for seed in range(8)
    }
    assert len(lengths) > 1


def test_the_store_keeps_all_classes_and_a_finished_one_is_left_alone(tmp_path, monkeypatch) -> None:
    from call_corpus import TRAIN, CallCorpus

    corpus = CallCorpus(name="few", clips=22, seed=3, settings=replace(TRAIN, echo_level=(0.1, 0.2)), store="mine")
    made = corpus.make(tmp_path)
    with made.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["label"] == "noise" for row in rows) == 2
    assert len({row["clip_id"] for row in rows}) == len(rows) == 22
    assert len(softlabels.open(tmp_path / "few" / "mine").classes) == 6522
    assert np.isfinite(made.join().soft()).all()
    assert np.isnan(made.join(0.0).hard()).all()
    monkeypatch.setattr(pipeline, "run", None)
    assert corpus.make(tmp_path) == made


def test_noise_of_the_second_corpus_is_the_backgrounds_alone() -> None:
    from call_corpus import TRAIN, synthesise

    quiet = replace(TRAIN, noise_rms=(0.0, 0.0))
    assert not synthesise(None, (1, 10, 0), quiet).any()
    assert synthesise(None, (1, 10, 0), TRAIN).any()
