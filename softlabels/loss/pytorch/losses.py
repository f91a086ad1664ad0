"""The losses as plain functions of PyTorch's tensors: the arithmetic of the Keras ones, without Keras.

They cast to float32, so they stand inside `torch.autocast`, and nothing in them breaks a graph of `torch.compile`.
Not here: the arithmetic itself (mixture.py, divergence.py, embedding/rows.py).
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from softlabels.loss.checks import (
    MIN_MASS,
    check_arguments,
    check_shapes,
    check_trust,
    label_settings,
    warn_of_half_precision,
)
from softlabels.loss.embedding.rows import check_weight, check_widths, embedding_rows
from softlabels.loss.mixture import Mixture
from softlabels.loss.pytorch import ops
from softlabels.loss.targets import Activation, check_halves

Loss = Callable[[Tensor, Tensor], Tensor]
CLIP = 1e-7  # as Keras's cross-entropies clip probabilities


def distillation_loss(
    y_true: Tensor,
    y_pred: Tensor,
    *,
    activation: Activation,
    alpha: float | Tensor,
    temperature: float,
    trust: Tensor | np.ndarray | None = None,
    min_mass: float = MIN_MASS,
    student_loss: Loss | None = None,
    from_logits: bool = True,
) -> Tensor:
    """Mix the teacher's opinion with the human label, one value per example; `softlabels.DistillationLoss` of PyTorch.

        loss = distillation_loss(y_true, student(x), activation="sigmoid", alpha=0.3, temperature=1.0).mean()

    Args:
      y_true: (batch, 2 * classes) `[hard | soft]` in [0, 1], NaN where nobody annotated and where the teacher gave
        nothing; or (batch, classes), hard labels alone. Values are checked where they lie in the processor's memory and
        nothing is compiled.
      y_pred: (batch, classes) outputs of the student, of any floating type.
      activation: "sigmoid" or "softmax", read from the store.
      alpha: weight of the teacher, in [0, 1]; a number or a scalar tensor.
      temperature: T > 0, no unit; 1 leaves the teacher as it is.
      trust: (classes,) in [0, 1], how far the teacher is believed on each class; None is fully.
      min_mass: softmax only, the least sum of a soft row that counts.
      student_loss: what compares with the human label, called as PyTorch's are, with outputs and targets, (batch,
        classes) float32 each: (batch, classes) under sigmoid, (batch,) under softmax, so `reduction="none"`. None is
        binary or categorical cross-entropy.
      from_logits: False where `y_pred` is probabilities.
    Returns: (batch,) float32; take its mean.
    Raises: ValueError: shapes, types, or values as `softlabels.DistillationLoss` refuses them, or a student loss that
      gives another shape.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    check_shapes("distillation_loss", y_true, y_pred)
    check_arguments("distillation_loss", activation, temperature, alpha, min_mass)
    classes = y_pred.shape[1]
    hard, soft = y_true[:, :classes], y_true[:, classes:] if y_true.shape[1] == 2 * classes else None
    if not torch.compiler.is_compiling():
        _check_values(hard, soft, activation)
        if not from_logits:
            _warn_once(y_pred.dtype)
    hard_loss = partial(_hard_loss, student_loss or _cross_entropy(activation, from_logits), activation)
    believed = None if trust is None else _trust(trust, y_pred)
    mix = Mixture(ops, hard_loss, activation, alpha, believed, temperature, min_mass, from_logits)
    return mix.rows(hard, soft, y_pred)


def loss_for_labels(
    labels: Any,
    alpha: float | None = None,
    temperature: float | None = None,
    *,
    student_loss: Loss | None = None,
    from_logits: bool = True,
    min_mass: float = MIN_MASS,
    device: torch.device | str | None = None,
) -> Loss:
    """`distillation_loss` with activation and trust from joined labels, and defaults that fit them: alpha 0.3, T = 1.

        loss = loss_for_labels(labels)
        loss(y_true, student(x)).mean().backward()
        loss(y_true, student(x), alpha=0.1)  # what a call names counts

    Args:
      labels: `JoinedLabels`; its `activation`, `classes` and `class_trust` are read.
      alpha, temperature: None takes the defaults, for which `softlabels.DistillationLoss.for_labels` gives reasons.
      device: where the outputs will be; trust is put there once.
    Returns: a function of y_true and y_pred, a `functools.partial`, so its settings are in `keywords`.
    Raises: ValueError: an argument is out of range, or trust and class list differ in length.
    """
    settings = label_settings("loss_for_labels", labels, alpha, temperature)
    check_arguments("loss_for_labels", labels.activation, settings["temperature"], settings["alpha"], min_mass)
    if settings["trust"] is not None:
        trust = check_trust("loss_for_labels", settings["trust"])
        settings["trust"] = torch.tensor(trust, dtype=torch.float32, device=device)
    return partial(distillation_loss, **settings, min_mass=min_mass, student_loss=student_loss, from_logits=from_logits)


def embedding_loss(embedding: Tensor, student: Tensor, *, weight: float = 1.0) -> Tensor:
    """One minus the cosine to the teacher's embedding, one value per row; `softlabels.EmbeddingLoss` of PyTorch.

    Args:
      embedding: (batch, width) the teacher's. Rows that are not finite (it gave none) or all zeros count 0.
      student: (batch, width) what the student makes of it, of any floating type; a row of zeros counts 0.
      weight: what each row's loss is multiplied by, 0 or more.
    Returns: (batch,) float32; take its mean.
    Raises: ValueError: other shapes, or a weight that is negative, infinite or NaN.
    """
    check_weight("embedding_loss", weight)
    check_widths("embedding_loss", embedding, student)
    return weight * embedding_rows(ops, embedding, student)


def _trust(trust: Any, y_pred: Tensor) -> Tensor:
    """(classes,) float32 beside the outputs; values of a tensor are taken as they are: to look, one had to wait."""
    if not isinstance(trust, Tensor):
        trust = torch.tensor(check_trust("distillation_loss", trust), dtype=torch.float32)
    if tuple(trust.shape) != (y_pred.shape[1],):
        raise ValueError(
            f"distillation_loss: expected trust for the student's {y_pred.shape[1]} classes; got shape "
            f"{tuple(trust.shape)}; make the loss with loss_for_labels(labels)"
        )
    return trust.to(y_pred.device, torch.float32)


def _check_values(hard: Tensor, soft: Tensor | None, activation: Activation) -> None:
    if hard.device.type == "cpu":  # elsewhere the check would wait for the device at every step
        halves = [half.detach().float().numpy() for half in (hard, hard[:, :0] if soft is None else soft)]
        check_halves(*halves, activation=activation, who="distillation_loss")


_warn_once = cache(partial(warn_of_half_precision, "distillation_loss"))


def _hard_loss(loss: Loss, activation: Activation, hard: Tensor, student: Tensor) -> Tensor:
    """(batch, classes) under sigmoid, (batch,) under softmax."""
    terms = loss(student, hard)
    expected = student.shape if activation == "sigmoid" else student.shape[:1]
    if terms.shape != expected:
        raise ValueError(
            f"distillation_loss: expected a student_loss of {activation} to give {tuple(expected)} for outputs "
            f"{tuple(student.shape)}; got {tuple(terms.shape)}; make it with reduction='none'"
        )
    return terms


def _cross_entropy(activation: Activation, from_logits: bool) -> Loss:
    """From outputs and hard labels; equal to Keras's."""
    if activation == "sigmoid":
        return _binary_of_log_odds if from_logits else _binary_of_probabilities
    return _categorical_of_logits if from_logits else _categorical_of_probabilities


def _binary_of_log_odds(student: Tensor, hard: Tensor) -> Tensor:
    return hard * functional.softplus(-student) + (1 - hard) * functional.softplus(student)  # exact where it is sure


def _binary_of_probabilities(student: Tensor, hard: Tensor) -> Tensor:
    p = student.clamp(CLIP, 1 - CLIP)
    return -(hard * p.log() + (1 - hard) * (1 - p).log())


def _categorical_of_logits(student: Tensor, hard: Tensor) -> Tensor:
    return -(hard * functional.log_softmax(student, dim=-1)).sum(dim=-1)


def _categorical_of_probabilities(student: Tensor, hard: Tensor) -> Tensor:
    p = (student / student.sum(dim=-1, keepdim=True)).clamp(CLIP, 1 - CLIP)
    return -(hard * p.log()).sum(dim=-1)
