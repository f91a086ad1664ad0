"""`AlphaSchedule`: let the teacher's weight change from epoch to epoch. Not here: the loss that has it."""

import math
from typing import Any, Literal

import keras

from softlabels.loss.distillation import DistillationLoss


class AlphaSchedule(keras.callbacks.Callback):
    """Set the loss's alpha at the beginning of every epoch; effective in an already traced training step.

    TensorFlow and torch read alpha in every step. JAX compiles it into the step as a constant, so there the training
    step is compiled again in each epoch that changes it.

        model.fit(ds, epochs=20, callbacks=[softlabels.AlphaSchedule(1.0, 0.3, epochs=20, kind="cosine")])

    Example:
      >>> softlabels.AlphaSchedule(1.0, 0.5).alpha_at(1, epochs=3)
      0.75
    """

    def __init__(
        self,
        start: float,
        end: float | None = None,
        *,
        epochs: int | None = None,
        kind: Literal["constant", "linear", "cosine"] = "linear",
        loss: DistillationLoss | None = None,
    ):
        """Check the arguments now.

        Args:
          start: alpha of the first epoch, in [0, 1].
          end: alpha of the last epoch and of all after it; None is `start`.
          epochs: number of epochs from start to end, at least 1; None takes the number that `fit` runs.
          kind: "constant" stays at start; "linear"; "cosine" is flat at both ends.
          loss: the loss to steer; None takes the one the model was compiled with.
        Raises: ValueError: alpha outside [0, 1] or NaN, epochs < 1, unknown kind.
        """
        super().__init__()
        end = start if end is None else end
        if kind not in ("constant", "linear", "cosine"):
            raise ValueError(f"AlphaSchedule: expected kind 'constant', 'linear' or 'cosine'; got {kind!r}; pick one")
        for name, value in (("start", start), ("end", end)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"AlphaSchedule: expected {name} in [0, 1]; got {value}; it is an alpha")
        if epochs is not None and epochs < 1:
            raise ValueError(f"AlphaSchedule: expected at least 1 epoch; got {epochs}; None takes those of fit")
        self.start, self.end, self.epochs, self.kind, self.loss = float(start), float(end), epochs, kind, loss

    def alpha_at(self, epoch: int, epochs: int) -> float:
        """Alpha of one epoch of so many, the first of which is 0; `end` from the last one on."""
        if self.kind == "constant":
            return self.start
        done = 1.0 if epoch >= epochs - 1 and epoch > 0 else epoch / max(1, epochs - 1)
        if self.kind == "cosine":
            done = 0.5 - 0.5 * math.cos(math.pi * done)
        return (1.0 - done) * self.start + done * self.end

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set alpha for this epoch."""
        loss = self._steered_loss()
        alpha = self.alpha_at(epoch, self.epochs or self.params.get("epochs") or 1)
        if alpha == loss.alpha:
            return
        loss.alpha = alpha
        if keras.backend.backend() == "jax":
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)

    def _steered_loss(self) -> DistillationLoss:
        """The loss given, or the compiled one; ValueError if that is no DistillationLoss."""
        loss = self.loss if self.loss is not None else self.model.loss
        if not isinstance(loss, DistillationLoss):
            raise ValueError(
                f"AlphaSchedule: expected a model compiled with one DistillationLoss; got {type(loss).__name__}; "
                "pass loss=, the DistillationLoss to steer"
            )
        return loss
