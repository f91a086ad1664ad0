"""Scoring windows: the teacher's answer held against its promise, as probabilities, and told from other machines'."""

import hashlib
from typing import Any

import numpy as np

from pipeline.teachers.teacher import Teacher, embedding_width
from softlabels.classes.class_list import Activation
from softlabels.errors import TeacherError


def score(teacher: Teacher, batch: np.ndarray) -> np.ndarray:
    """(batch_size, classes) float32. Raises: TeacherError: it answers something else."""
    return _checked_scores(teacher, batch, teacher.score(batch))


def score_with_embedding(teacher: Any, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, and the embeddings of the same pass, (batch_size, embedding_width) float32, finite or not."""
    answer = teacher.score_with_embedding(batch)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TeacherError(f"teacher {teacher.name!r}: expected (scores, embeddings), got {type(answer).__name__}")
    scores, embeddings = answer
    expected = (teacher.batch_size, embedding_width(teacher))
    if not isinstance(embeddings, np.ndarray) or embeddings.shape != expected or embeddings.dtype != np.float32:
        raise TeacherError(
            f"teacher {teacher.name!r}: expected {expected} float32 embeddings for {batch.shape} samples, got "
            f"{getattr(embeddings, 'shape', type(embeddings).__name__)} {getattr(embeddings, 'dtype', '')}"
        )
    return _checked_scores(teacher, batch, scores), embeddings


def _checked_scores(teacher: Teacher, batch: np.ndarray, scores: Any) -> np.ndarray:
    expected = (teacher.batch_size, len(teacher.classes))
    if not isinstance(scores, np.ndarray) or scores.shape != expected or scores.dtype != np.float32:
        raise TeacherError(
            f"teacher {teacher.name!r}: expected {expected} float32 scores for {batch.shape} samples, got "
            f"{getattr(scores, 'shape', type(scores).__name__)} {getattr(scores, 'dtype', '')}"
        )
    if teacher.outputs == "probabilities" and ((scores < 0) | (scores > 1)).any():
        raise TeacherError(
            f"teacher {teacher.name!r}: expected probabilities from 0 to 1, got {scores.min():g} to {scores.max():g}; "
            "does it give logits?"
        )
    return scores


def wide_probabilities(logits: np.ndarray, activation: Activation) -> np.ndarray:
    """(rows, classes) float32 logits -> float64 probabilities, to be rounded once by whoever keeps them."""
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # exp(800) = inf gives the right 0
        if activation == "sigmoid":
            return 1.0 / (1.0 + np.exp(-wide))
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def check_outputs(teacher: Teacher, answer: np.ndarray) -> None:
    """Hold answers to control windows, (n, classes), against `outputs`. Raises: TeacherError: they are no logits."""
    inside = answer.min() >= 0 and answer.max() <= 1 and answer.min() < answer.max()
    if teacher.outputs != "logits" or not inside:
        return
    ends_in = "softmax" if answer.shape[1] > 1 and np.allclose(answer.sum(axis=1), 1, atol=1e-3) else "sigmoid"
    sums = " and sum to 1" if ends_in == "softmax" else ""
    raise TeacherError(
        f"teacher {teacher.name!r}: --outputs logits, but all its answers to control windows lie from "
        f"{answer.min():.3g} to {answer.max():.3g}{sums}: it most likely ends in a {ends_in}, and a second one would "
        f"flatten every label; give --outputs probabilities --activation {ends_in} (a teacher class of your own: "
        "outputs = 'probabilities')"
    )


def numerics_class(teacher: Teacher, *, embedded: bool = False) -> str:
    """Digest of the answer to 8 fixed synthetic windows: tells CPU class, runtime and a wrong model apart.

    embedded: the embeddings are part of the answer.
    """
    integers = np.random.Generator(np.random.PCG64(2024)).integers(-8192, 8192, (8, teacher.window_samples))
    windows = (integers / 32768).astype(np.float32)  # exact, so the same everywhere
    padding = np.zeros((-8 % teacher.batch_size, teacher.window_samples), np.float32)
    batches = np.concatenate([windows, padding]).reshape(-1, teacher.batch_size, teacher.window_samples)
    answer = np.concatenate([_answer(teacher, batch, embedded) for batch in batches])[:8]
    check_outputs(teacher, answer[:, : len(teacher.classes)])
    return hashlib.sha256(answer.tobytes()).hexdigest()


def _answer(teacher: Teacher, batch: np.ndarray, embedded: bool) -> np.ndarray:
    """(batch_size, classes) scores, or [scores | embedding], in an array of its own."""
    if embedded:
        return np.concatenate(score_with_embedding(teacher, batch), axis=1)
    return score(teacher, batch).copy()
