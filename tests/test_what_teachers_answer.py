"""What a teacher really answers, held against what its user says of it: probabilities as logits, answers by batch."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus
from standin import StandIn

import pipeline
from pipeline import TeacherChoice
from pipeline.teachers.batch_teacher import BatchTeacher
from pipeline.teachers.description import Description
from pipeline.teachers.scoring import numerics_class
from pipeline.teachers.signatures.model import OpenModel, Tensor
from softlabels import TeacherError


class Answering(StandIn):
    """The stand-in, its logits changed by a function."""

    def __init__(self, change, outputs: str = "logits") -> None:
        self.change, self.outputs = change, outputs

    def score(self, windows: np.ndarray) -> np.ndarray:
        return self.change(super().score(windows)).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("change", "ends_in"),
    [
        (sigmoid, "sigmoid"),
        (softmax, "softmax"),
        (lambda x: sigmoid(x - 8), "sigmoid"),
        (lambda x: np.round(sigmoid(x)), "sigmoid"),
        (lambda x: sigmoid(x[:, :1]).repeat(3, axis=1) / 2, "sigmoid"),
    ],
)
def test_probabilities_that_are_called_logits_are_refused(change, ends_in: str) -> None:
    with pytest.raises(
        TeacherError, match=f"--outputs logits, but .* give --outputs probabilities --activation {ends_in}"
    ):
        numerics_class(Answering(change))
    assert numerics_class(Answering(change, outputs="probabilities"))


@pytest.mark.parametrize(
    "change", [lambda x: x, lambda x: x * 0, lambda x: x * 0 + 1, lambda x: x * 1e-3, lambda x: x + 9]
)
def test_logits_are_taken_for_logits(change) -> None:
    assert numerics_class(Answering(change))


def teacher(forward, batch_size: int | None = 4) -> BatchTeacher:
    """A model of 800 samples and three classes, from a function of (batch, 800)."""
    model = OpenModel(
        inputs=[Tensor("float32", (None, 800))],
        outputs=[Tensor("float32", (None, 3))],
        forward=lambda batch, wanted: [forward(batch).astype(np.float32)],
        is_out_of_memory=lambda error: False,
    )
    described = Description(
        model=Path("m.keras"), classes=StandIn.classes, rate_hz=8000, activation="sigmoid", outputs="logits"
    )
    return BatchTeacher(TeacherChoice(kind="keras", batch_size=batch_size), described, model, digest="d")


def bands(batch: np.ndarray) -> np.ndarray:
    """(batch, 800) -> (batch, 3) decibels of three bands."""
    power = np.abs(np.fft.rfft(batch.reshape(len(batch), 8, 100), axis=2)[:, :, 1:49]) ** 2
    return np.log10(power + 1e-10).reshape(len(batch), 8, 3, 16).mean(axis=3)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: np.maximum(bands(x), bands(x).max() - 8).mean(axis=1),  # 80 dB below the loudest of the batch
        lambda x: (bands(x).mean(axis=1) - bands(x).mean()) / (1 + bands(x).std()),  # normalised over the batch
        lambda x: bands(x / max(np.abs(x).max(), 1e-9)).mean(axis=1),  # scaled by the batch's peak
        lambda x: np.roll(bands(x).mean(axis=1), 1, axis=0),  # rows that belong to a neighbour
    ],
)
def test_a_model_whose_answer_depends_on_its_batch_is_refused_unless_it_scores_one_window_at_a_time(forward) -> None:
    with pytest.raises(TeacherError, match="depends on the others in its batch, by up to .*--batch-size 1"):
        teacher(forward)
    assert teacher(forward, batch_size=1).batch_size == 1


@pytest.mark.parametrize("factor", [1, 1e-4, 50])
def test_a_model_that_looks_at_each_window_alone_is_taken(factor: float) -> None:
    assert teacher(lambda x: factor * bands(x).mean(axis=1)).batch_size == 4


def sure() -> Answering:
    return Answering(sigmoid)


def test_a_run_with_the_wrong_outputs_labels_nothing(corpus: Corpus) -> None:
    with pytest.raises(TeacherError, match="--outputs logits, but"):
        pipeline.run(
            corpus.manifest,
            corpus.folder / "store",
            teacher="test_what_teachers_answer:sure",
            options=pipeline.RunOptions(backend="sequential"),
        )
    assert not list((corpus.folder / "store").glob("receipts/*"))
