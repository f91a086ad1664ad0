"""Soft labels for audio students: open a store, join it with hard labels, feed and train.

    store  = softlabels.open("soft_labels")
    labels = store.join("data_manifest.csv", classes="classes.txt")
    ds     = softlabels.make_dataset(labels, batch_size=64)       # -> (x, y_true), y_true = [hard | soft]
    loss   = softlabels.DistillationLoss.for_labels(labels)

What needs Keras or TensorFlow is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from softlabels.classes import ClassList
from softlabels.errors import (
    AudioError,
    ClassListError,
    JoinError,
    ManifestError,
    SoftLabelsError,
    StoreError,
    TeacherError,
)
from softlabels.manifest import Clip, read_manifest, write_manifest
from softlabels.store import SoftLabelStore, open

if TYPE_CHECKING:
    from softlabels.dataset import make_dataset

_LAZY = {
    "make_dataset": "softlabels.dataset",
}

__all__ = [
    "AudioError",
    "ClassList",
    "ClassListError",
    "Clip",
    "JoinError",
    "ManifestError",
    "SoftLabelStore",
    "SoftLabelsError",
    "StoreError",
    "TeacherError",
    "make_dataset",
    "open",
    "read_manifest",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'softlabels' has no attribute {name!r}")
