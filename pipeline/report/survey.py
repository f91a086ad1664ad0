"""Survey: everything that one pass over a store tells; bounded memory, whatever the number of classes."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.exports.written import labelled_shards
from pipeline.report.clip_evidence import Hearing, HumanLabels
from pipeline.report.confidence import Sureness
from pipeline.report.confusions import ConfusionMatrix, Confusions
from pipeline.report.duplicates import Duplicate, Duplicates
from softlabels.errors import StoreError
from softlabels.store.reader import StoreReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """hearing: None without annotated clips; confusions: None if the teacher is sure of nothing."""

    sureness: Sureness
    confusions: ConfusionMatrix | None
    duplicates: list[Duplicate]
    hearing: Hearing | None


def survey(store: StoreReader, labels: HumanLabels | None, on_windows: Callable[[int], None]) -> Survey:
    """Read every labelled window once. Raises: StoreError: there is none, or a shard is damaged."""
    if not len(store):
        raise StoreError(f"'{store.storage}': no window is labelled yet; `softlabels run` labels them")
    index, classes = store.index, len(store.classes)
    sureness = Sureness(len(index), classes, store.activation)
    confusions, duplicates = Confusions(classes), Duplicates(len(index))
    hearing = labels and Hearing(labels, index)
    for entries, rows in labelled_shards(store):
        for each in (sureness, confusions, duplicates, *([hearing] if hearing else [])):
            each.add(entries, rows.probabilities)
        on_windows(len(entries))
    return Survey(
        sureness=sureness, confusions=confusions.matrix(), duplicates=duplicates.groups(index), hearing=hearing
    )
