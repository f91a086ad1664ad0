"""Soft labels for audio students: open a store, join it with hard labels, feed and train.

    store  = softlabels.open("soft_labels")
    labels = store.join("data_manifest.csv", classes="classes.txt")
    ds     = softlabels.make_dataset(labels, batch_size=64)       # -> (x, y_true), y_true = [hard | soft]
    loss   = softlabels.DistillationLoss.for_labels(labels)

`softlabels.torch` has batches and losses of PyTorch. Each name is loaded when it is first used: a worker process needs
no reader of stores, and reading a store no Keras. What Keras has to know by name, because saved models name it, is
loaded with Keras, whichever is imported first.
"""

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from softlabels.errors import (
    AudioError,
    ClassListError,
    JoinError,
    ManifestError,
    SoftLabelsError,
    StoreError,
    TeacherError,
)

if TYPE_CHECKING:
    from softlabels.batches.frameworks.tf_dataset import attach, make_dataset
    from softlabels.batches.mixup import mixup
    from softlabels.classes.class_list import ClassList
    from softlabels.corpus.manifest import Clip, read_manifest, write_manifest
    from softlabels.joins.ensemble import join
    from softlabels.labels.joined_labels import JoinedLabels, load_labels
    from softlabels.loss.distillation import DistillationLoss, distillation_loss
    from softlabels.loss.embedding.cosine import EmbeddingLoss
    from softlabels.loss.embedding.head import strip_embedding_head, with_embedding_head
    from softlabels.loss.metrics import HardLabelMetric, TeacherAgreement
    from softlabels.loss.schedule import AlphaSchedule
    from softlabels.loss.targets import check_targets, class_weights_to_sample_weights, pack_targets, split_targets
    from softlabels.soft_label_store import SoftLabelStore, open

_LAZY = {
    "AlphaSchedule": "softlabels.loss.schedule",
    "ClassList": "softlabels.classes.class_list",
    "Clip": "softlabels.corpus.manifest",
    "DistillationLoss": "softlabels.loss.distillation",
    "EmbeddingLoss": "softlabels.loss.embedding.cosine",
    "HardLabelMetric": "softlabels.loss.metrics",
    "JoinedLabels": "softlabels.labels.joined_labels",
    "SoftLabelStore": "softlabels.soft_label_store",
    "TeacherAgreement": "softlabels.loss.metrics",
    "attach": "softlabels.batches.frameworks.tf_dataset",
    "check_targets": "softlabels.loss.targets",
    "class_weights_to_sample_weights": "softlabels.loss.targets",
    "distillation_loss": "softlabels.loss.distillation",
    "join": "softlabels.joins.ensemble",
    "load_labels": "softlabels.labels.joined_labels",
    "make_dataset": "softlabels.batches.frameworks.tf_dataset",
    "mixup": "softlabels.batches.mixup",
    "open": "softlabels.soft_label_store",
    "pack_targets": "softlabels.loss.targets",
    "read_manifest": "softlabels.corpus.manifest",
    "split_targets": "softlabels.loss.targets",
    "write_manifest": "softlabels.corpus.manifest",
    "strip_embedding_head": "softlabels.loss.embedding.head",
    "with_embedding_head": "softlabels.loss.embedding.head",
}

__all__ = [
    "AlphaSchedule",
    "AudioError",
    "ClassList",
    "ClassListError",
    "Clip",
    "DistillationLoss",
    "EmbeddingLoss",
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
    "strip_embedding_head",
    "with_embedding_head",
    "write_manifest",
]


_WITHOUT_KERAS = {  # of the room of losses
    "softlabels.loss",
    *(f"softlabels.loss.{name}" for name in ("checks", "divergence", "mixture", "targets")),
    *("softlabels.loss.embedding", "softlabels.loss.embedding.rows"),
    *(f"softlabels.loss.pytorch{name}" for name in ("", ".losses", ".ops")),
}


def _register() -> None:
    """Load the modules whose classes Keras has to find."""
    for name in ("distillation", "metrics", "embedding.cosine", "embedding.head"):
        importlib.import_module(f"softlabels.loss.{name}")


class _WithKeras(MetaPathFinder):
    """Follows the first import of Keras with `_register`: Keras finds a saved loss only among what is loaded."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "keras" or self not in sys.meta_path:
            return None
        sys.meta_path.remove(
            self
        )  # only while it asks the other finders: TensorFlow looks for Keras before it loads it
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                load(module)
                sys.meta_path.remove(self)
                if {name for name in sys.modules if name.startswith("softlabels.loss")} <= _WITHOUT_KERAS:
                    _register()  # else one of them has asked for Keras and is half loaded itself; see __getattr__

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


if "keras" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _WithKeras())


def __getattr__(name: str) -> Any:
    if name == "torch":  # so `import softlabels` is enough
        return importlib.import_module("softlabels.torch")
    if name not in _LAZY:
        raise AttributeError(f"module 'softlabels' has no attribute {name!r}")
    try:
        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    except ModuleNotFoundError as e:
        if e.name not in ("keras", "tensorflow"):
            raise
        raise ImportError(
            f"softlabels.{name} needs {e.name}: `pip install tensorflow keras`; for PyTorch there is softlabels.torch"
        ) from e
    if "keras" in sys.modules:
        _register()
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
