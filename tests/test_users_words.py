"""What a user reads in the terminal: flags and files by their names, what to type next, and nothing of others."""

import dataclasses

import pytest
from conftest import Corpus, label
from standin import StandIn

from pipeline.planning.settings import setting_differences
from pipeline.teachers.teacher import TeacherChoice
from softlabels import ClassList
from softlabels.records.spec import LabelSpec
from softlabels.windows import WindowSpec

STAND_IN = ("--teacher", "standin:teacher", "--backend", "sequential")


@pytest.fixture
def here(corpus: Corpus, monkeypatch) -> Corpus:
    """The corpus as the current directory."""
    monkeypatch.chdir(corpus.folder)
    return corpus


# --- settings

A, B = "a" * 64, "b" * 64
GRID = WindowSpec(rate_hz=8000, window_samples=800, hop_samples=800)
OTHER_SETTINGS = {  # what is asked for -> what is said, beside a store of the stand-in with all defaults
    "--overlap 0.05 here, 0 in the store": {"window": dataclasses.replace(GRID, hop_samples=400)},
    "--overlap 0.025 here, 0 in the store": {"window": dataclasses.replace(GRID, hop_samples=600)},
    "rate 16000 here, 8000 in the store; seconds a window 0.05 here, 0.1 in": {
        "window": WindowSpec(rate_hz=16_000, window_samples=800, hop_samples=800)
    },
    "activation softmax here, sigmoid in the store": {"activation": "softmax"},
    "batch-size 16 here, 4 in the store": {"batch_size": 16},
    "--jitters 5 here, 1 in the store": {"jitters": 5},
    "--shard-windows 100 here, 4 in the store": {"shard_windows": 100},
    "--layout sparse here, dense in the store": {"layout": "sparse", "min_probability": 0.01},
    "with --portable here, without it in the store": {"portable": True},
    "without --no-fold here, with it": {"fold": "1", "source_digest": StandIn.digest, "teacher_digest": B},
    "teacher birdnet-v2.4 here, stand-in in the store": {"teacher": "birdnet-v2.4"},
    "--teacher standin:teacher is not what it was": {"teacher_digest": B},
    "--keep-classes: 2 here, 3 in the store (only in the store 'Aus aus_Alpha')": {"teacher_class_digest": A},
    "classes of the teacher: another class list here than in the store": {"teacher_class_digest": A, "layout": "dense"},
    "--components 64 here, 0 in": {"components": 64, "component_digest": B, "teacher_class_digest": A},
    "decode int16 here, float32, mean of channels in the store, which another version": {"decode": "int16"},
    "resample linear here": {"resample": "linear"},
    "significand_bits 10 here, 8 in the store": {"significand_bits": 10},
}


def test_every_setting_that_differs_is_named_as_its_flag_with_both_values(corpus: Corpus) -> None:
    store = label(corpus)
    choice, classes, kept = TeacherChoice(kind="standin:teacher"), store.classes, ClassList(store.classes.names[1:])
    seen = set()
    for said, changes in OTHER_SETTINGS.items():
        asked = dataclasses.replace(store.spec, **changes)
        found = setting_differences(asked, kept if "teacher_class_digest" in changes else classes, choice, store)
        assert said in found, found
        assert not any(mark in found for mark in ("{", A[:12], B[:12], store.spec.teacher_digest[:12])), found
        seen |= set(changes)
    assert {field.name for field in dataclasses.fields(LabelSpec)} - seen == {"class_digest", "format_version"}
    assert setting_differences(store.spec, classes, choice, store) == ""
