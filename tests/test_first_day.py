"""A newcomer's first day, through the command line: no step needs a hand edit, no message names an internal."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_writers import STAND_IN

import softlabels
from pipeline.cli.commands import main

INTERNALS = re.compile(
    r"Traceback|object at 0x|PosixPath|<class|\b(pipeline|softlabels)\.[a-z_]+\.|errno|\bNone\b|"
    r"fingerprint|PlannedClip|EnvironmentTrouble|TeacherChoice|\{'"
)
SPECIES = ("Aus aus_Alpha", "Bus bus_Beta", "Cus cus_Gamma")


def record(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.4, 0.4, 2400).astype(np.float32)
    soundfile.write(path, samples, 8000)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch, capsys):
    """Types a command in the project's folder; its stdout."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code, capsys.readouterr().err
        printed = capsys.readouterr()
        assert not INTERNALS.search(printed.out + printed.err), (words, INTERNALS.search(printed.out + printed.err))
        return printed.out

    return run


def test_a_newcomers_first_day(typed, tmp_path: Path, monkeypatch) -> None:
    project = tmp_path / "my birds"
    for n in range(12):
        record(project / "recordings" / (*SPECIES, "noise")[n % 4] / f"XC{n}.wav", n)
    monkeypatch.chdir(project)
    # From a folder to a store.
    typed("manifest", "recordings", "--sha256", "--split", "train=0.75,test=0.25")
    typed("run", "--dry-run", *STAND_IN)
    assert sorted(path.name for path in project.iterdir()) == ["data_manifest.csv", "recordings"]
    typed("run", *STAND_IN)
    # Look, listen, and correct by marks, as the page writes them.
    typed("report", "--suspects", "suspects.csv")
    suspects = list(csv.DictReader(Path("suspects.csv").read_text(encoding="utf-8-sig").splitlines()))
    wrong, instead = suspects[0], next(name for name in SPECIES if name != suspects[0]["label"])
    assert (project / wrong["path"]).is_file()
    cell = softlabels.read_manifest("data_manifest.csv")
    labels = next(";".join(clip.labels or ()) or "noise" for clip in cell if clip.clip_id == wrong["clip_id"])
    Path("marks.csv").write_text(
        f"verdict,class,clip_id,label,labels\nwrong,{instead},{wrong['clip_id']},{wrong['label']},{labels}\n"
    )
    typed("manifest", "data_manifest.csv", "--apply", "marks.csv")
    corrected = {clip.clip_id: clip for clip in softlabels.read_manifest("data_manifest.csv")}
    assert instead in (corrected[wrong["clip_id"]].labels or ())
    # The corpus grows; what was corrected and labelled stays.
    for n in range(12, 16):
        record(project / "recordings" / SPECIES[n % 3] / f"XC{n}.wav", n)
    assert json.loads(typed("manifest", "recordings", "--update", "--json"))["added"] == 4
    grown = {clip.clip_id: clip for clip in softlabels.read_manifest("data_manifest.csv")}
    assert {clip_id: grown[clip_id] for clip_id in corrected} == corrected
    assert json.loads(typed("run", *STAND_IN, "--json"))["labelled"] == 16 * 3
    # A list of one's own that is shorter than what the corpus has, and a student for a microcontroller.
    Path("mine.txt").write_text("Aus aus_Alpha\nCus cus_Gamma\n")
    with pytest.raises(softlabels.JoinError, match="other_labels"):
        softlabels.open("soft_labels").join("data_manifest.csv", classes="mine.txt")
    train = softlabels.open("soft_labels").join(
        "data_manifest.csv", classes="mine.txt", split="train", other_labels="absent"
    )
    assert len(train.classes) == 2
    assert len(int8_student(train)) > 1000
    # The folder moves; everything is found again.
    moved = project.rename(tmp_path / "archive")
    monkeypatch.chdir(moved)
    scored_by = ("--manifest", "data_manifest.csv", "--teacher", "standin:teacher")
    typed("verify", "soft_labels", "--recompute", "1", *scored_by)
    shard = min((moved / "soft_labels" / "shards").iterdir())
    intact = shard.read_bytes()
    shard.write_bytes(intact[:-1])
    typed("verify", "soft_labels", code=1)
    typed("regenerate", "soft_labels", "--shard", "0", *scored_by)
    assert shard.read_bytes() == intact
    typed("verify", "soft_labels")
    typed("run", *STAND_IN)
    typed("report")


def int8_student(train: softlabels.JoinedLabels) -> bytes:
    """A small student, fitted and quantised, as a flatbuffer."""
    import keras
    import tensorflow as tf

    student = keras.Sequential([keras.layers.Input((800,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    student.compile("adam", loss=softlabels.DistillationLoss.for_labels(train, from_logits=True))
    batches = softlabels.make_dataset(train, batch_size=8)
    student.fit(batches, epochs=1, verbose=0)
    sounds = next(iter(batches))[0]
    call = tf.function(student).get_concrete_function(tf.TensorSpec((1, 800), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sound[None]] for sound in sounds)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()
