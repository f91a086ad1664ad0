"""Soft labels for audio students: open a store, join it with hard labels, feed and train.

    store  = softlabels.open("soft_labels")
    labels = store.join("data_manifest.csv", classes="classes.txt")
    ds     = softlabels.make_dataset(labels, batch_size=64)       # -> (x, y_true), y_true = [hard | soft]
    loss   = softlabels.DistillationLoss.for_labels(labels)

What needs Keras or TensorFlow is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from softlabels.classes.class_list import ClassList
from softlabels.corpus.manifest import Clip, read_manifest, write_manifest
from softlabels.errors import (
    AudioError,
    ClassListError,
    JoinError,
    ManifestError,
    SoftLabelsError,
    StoreError,
    TeacherError,
)
from softlabels.loss.targets import check_targets, class_weights_to_sample_weights, pack_targets, split_targets
from softlabels.soft_label_store import SoftLabelStore, open

if TYPE_CHECKING:
    from softlabels.batches.mixup import mixup
    from softlabels.batches.tf_dataset import attach, make_dataset
    from softlabels.joins.ensemble import join
    from softlabels.labels.joined_labels import JoinedLabels, load_labels
    from softlabels.loss.distillation import DistillationLoss, distillation_loss
    from softlabels.loss.metrics import HardLabelMetric, TeacherAgreement
    from softlabels.loss.schedule import AlphaSchedule

_LAZY = {
    "AlphaSchedule": "softlabels.loss.schedule",
    "DistillationLoss": "softlabels.loss.distillation",
    "HardLabelMetric": "softlabels.loss.metrics",
    "TeacherAgreement": "softlabels.loss.metrics",
    "JoinedLabels": "softlabels.labels.joined_labels",
    "attach": "softlabels.batches.tf_dataset",
    "distillation_loss": "softlabels.loss.distillation",
    "join": "softlabels.joins.ensemble",
    "load_labels": "softlabels.labels.joined_labels",
    "make_dataset": "softlabels.batches.tf_dataset",
    "mixup": "softlabels.batches.mixup",
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
