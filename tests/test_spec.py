import dataclasses

import pytest
from standin import SPEC

from softlabels import StoreError
from softlabels.records.spec import LabelSpec
from softlabels.windows import WindowSpec


def test_every_field_changes_the_fingerprint() -> None:
    changes = {
        "teacher": "x",
        "teacher_digest": "x",
        "class_digest": "x",
        "activation": "softmax",
        "window": WindowSpec(rate_hz=8, window_samples=8, hop_samples=4),
        "shard_windows": 5,
        "batch_size": 2,
        "portable": True,
        "decode": "x",
        "resample": "x",
        "significand_bits": 9,
        "zstd_level": 3,
        "jitters": 2,
        "scores_output": "x",
        "embedding_output": "x",
        "pool": "max",
        "scale": 0.97,
        "offset": -10.0,
        "peak": 0.25,
        "remove_mean": True,
        "taxonomy_year": 2024,
        "teacher_class_digest": "x",
        "embedding": 1024,
        "format_version": 2,
    }
    prints = {SPEC.fingerprint()} | {dataclasses.replace(SPEC, **{k: v}).fingerprint() for k, v in changes.items()}
    prints.add(dataclasses.replace(SPEC, layout="sparse", min_probability=0.1).fingerprint())
    prints.add(dataclasses.replace(SPEC, layout="sparse", min_probability=0.2).fingerprint())
    prints.add(dataclasses.replace(SPEC, fold="1", source_digest="x").fingerprint())
    prints.add(dataclasses.replace(SPEC, fold="1", source_digest="y").fingerprint())
    prints.add(dataclasses.replace(SPEC, fold="2", source_digest="x").fingerprint())
    kept = {"teacher_class_digest": "x"}
    prints.add(dataclasses.replace(SPEC, **kept, components=1, component_digest="x").fingerprint())
    prints.add(dataclasses.replace(SPEC, **kept, components=1, component_digest="y").fingerprint())
    prints.add(dataclasses.replace(SPEC, **kept, components=2, component_digest="y").fingerprint())
    assert len(prints) == 1 + len(changes) + 2 + 3 + 3
    covered = {*changes, "components", "component_digest", "layout", "min_probability", "fold", "source_digest"}
    assert covered == {field.name for field in dataclasses.fields(SPEC)}, "a new field needs a line here"


def test_the_fingerprint_is_the_same_on_every_machine_and_day() -> None:
    assert SPEC.fingerprint() == "0e7870a66c9aa45f27a118fc82c261f048b07837800a7dc2e33c2dc853f5487c"


STORED = dataclasses.replace(SPEC, class_digest="c" * 64)  # where a spec is read, digests have to have their form


def test_json_round_trip() -> None:
    assert LabelSpec.from_json(STORED.to_json()) == STORED


def test_a_newer_format_names_the_upgrade() -> None:
    with pytest.raises(StoreError, match="store format version 99.*pip install --upgrade softlabels"):
        LabelSpec.from_json({**STORED.to_json(), "format_version": 99})


def test_a_spec_with_unknown_fields_is_refused() -> None:
    with pytest.raises(StoreError, match="expected the fields of a spec"):
        LabelSpec.from_json({**STORED.to_json(), "more": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "relu"},
        {"layout": "thick"},
        {"shard_windows": 0},
        {"batch_size": 0},
        {"jitters": 0},
        {"jitters": 65},
        {"zstd_level": 0},
        {"zstd_level": 23},
        {"embedding": -1},
        {"embedding": (1 << 14) + 1},
        {"fold": "1"},
        {"min_probability": 0.1},
        {"layout": "sparse"},
        {"layout": "sparse", "min_probability": 1.0},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(SPEC, **change)
