"""Survey: everything that one pass over a store tells; bounded memory, whatever the number of classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.exports.written import labelled_shards, require_labels
from pipeline.report.clip_evidence import ClipEvidence, HumanLabels
from pipeline.report.confidence import Confidence
from pipeline.report.confusions import ConfusionMatrix, Confusions
from pipeline.report.duplicates import Duplicate, Duplicates
from softlabels.store.reader import StoreReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """evidence: None without annotated clips; confusions: None if the teacher is sure of nothing."""

    confidence: Confidence
    confusions: ConfusionMatrix | None
    duplicates: list[Duplicate]
    evidence: ClipEvidence | None


class _Follower(Protocol):
    def add(self, windows: np.ndarray, probabilities: np.ndarray, /) -> None:
        """windows: (n,) int64 entries of the index; probabilities: (n, classes) float32."""


def survey(store: StoreReader, labels: HumanLabels | None, on_windows: Callable[[int], None]) -> Survey:
    """Read every labelled window once. Raises: StoreError: there is none, or a shard is damaged."""
    require_labels(store)
    index, classes = store.index, len(store.classes)
    confidence = Confidence(len(index), classes, store.activation)
    confusions, duplicates = Confusions(classes), Duplicates(len(index))
    evidence = ClipEvidence(labels, index) if labels else None
    followers: list[_Follower] = [confidence, confusions, duplicates, *([evidence] if evidence else [])]
    for entries, rows in labelled_shards(store):
        for each in followers:
            each.add(entries, rows.probabilities)
        on_windows(len(entries))
    return Survey(
        confidence=confidence, confusions=confusions.matrix(), duplicates=duplicates.groups(index), evidence=evidence
    )
