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
from softlabels.targets import check_targets, class_weights_to_sample_weights, pack_targets, split_targets

if TYPE_CHECKING:
    from softlabels.dataset import attach, make_dataset
    from softlabels.ensemble import join
    from softlabels.joined import JoinedLabels, load_labels
    from softlabels.loss import DistillationLoss, distillation_loss
    from softlabels.metrics import HardLabelMetric, TeacherAgreement
    from softlabels.mixing import mixup
    from softlabels.schedule import AlphaSchedule

_LAZY = {
    "AlphaSchedule": "softlabels.schedule",
    "DistillationLoss": "softlabels.loss",
    "HardLabelMetric": "softlabels.metrics",
    "TeacherAgreement": "softlabels.metrics",
    "JoinedLabels": "softlabels.joined",
    "attach": "softlabels.dataset",
    "distillation_loss": "softlabels.loss",
    "join": "softlabels.ensemble",
    "load_labels": "softlabels.joined",
    "make_dataset": "softlabels.dataset",
    "mixup": "softlabels.mixing",
}

__all__ = [
    "AlphaSchedule",
    "AudioError",
    "ClassList",
    "ClassListError",
    "Clip",
    "DistillationLoss",
    "HardLabelMetric",
    "JoinError",
    "JoinedLabels",
    "ManifestError",
    "SoftLabelStore",
    "SoftLabelsError",
    "StoreError",
    "TeacherAgreement",
    "TeacherError",
    "attach",
    "check_targets",
    "class_weights_to_sample_weights",
    "distillation_loss",
    "join",
    "load_labels",
    "make_dataset",
    "mixup",
    "open",
    "pack_targets",
    "read_manifest",
    "split_targets",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'softlabels' has no attribute {name!r}")
