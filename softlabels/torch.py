"""Soft labels for students of PyTorch: batches and losses that need neither TensorFlow nor Keras.

labels = softlabels.open("soft_labels").join("data_manifest.csv", classes="classes.txt")
loader = softlabels.torch.make_dataloader(labels, batch_size=64, shuffle=True, workers=2)   # -> (x, y_true)
loss   = softlabels.torch.loss_for_labels(labels)                                          # one value a row
"""

try:
    import torch  # noqa: F401
except ImportError as e:
    raise ImportError("softlabels.torch needs PyTorch: `pip install torch`, or `pip install softlabels[torch]`") from e

from softlabels.batches.frameworks.torch_loader import make_dataloader
from softlabels.loss.pytorch.losses import distillation_loss, embedding_loss, loss_for_labels

__all__ = ["distillation_loss", "embedding_loss", "loss_for_labels", "make_dataloader"]
