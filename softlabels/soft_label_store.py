"""SoftLabelStore: a store as its users open it: to read, and to join with hard labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from softlabels.storage.opening import open_storage
from softlabels.store.reader import StoreReader

if TYPE_CHECKING:
    from softlabels.classes.class_list import ClassList
    from softlabels.labels.joined_labels import JoinedLabels


def open(path: str | Path, *, digest: str | None = None) -> "SoftLabelStore":
    """Open a store for reading: a folder, or s3://, gs:// or az://bucket/prefix.

    Args:
      digest: the digest under which the store was published, as `softlabels verify` prints it; None is any.
    Raises: StoreError: there is none, it is damaged, it is not the one of the digest, or a newer softlabels wrote it.
    Example:
      >>> softlabels.open("store")
      SoftLabelStore('store', 14 windows, 3 classes)
    """
    return SoftLabelStore(open_storage(path), digest=digest)


class SoftLabelStore(StoreReader):
    """What a teacher said about a corpus. `len(store)` is the number of labelled windows.

    A store is read as it was when opened; shards committed later need another `open`. Only `join` looks again.
    """

    def join(
        self,
        manifest: str | Path,
        classes: "ClassList | Sequence[str] | str | Path | None" = None,
        split: str | None = None,
        missing: Literal["error", "drop", "hard"] = "error",
        windows: Literal["each", "max", "mean"] = "each",
        *,
        mapping: str | Path | None = None,
        min_coverage: float = 0.5,
        annotations: str | Path | Sequence[str | Path] | None = None,
        annotated_extents: str | Path | None = None,
        annotation_column: str | None = None,
        weak_labels: Literal["spread", "best"] = "spread",
        other_labels: Literal["error", "absent", "unknown", "drop"] = "error",
        canary: bool = True,
        root: str | Path | None = None,
        cache_dir: str | Path | None = None,
    ) -> "JoinedLabels":
        """Join the manifest's hard labels with this store's soft labels, by (clip_id, window_index).

        Args:
          manifest: the CSV, read and checked again whenever it, the store or an argument has changed.
          classes: the student's class list: names, a list object or a text file; None is the teacher's. A class
            that the teacher lacks has NaN as soft label.
          split: keep only clips of this split; None keeps all.
          missing: what to do with a window that the store has no label for: "error" raises, "drop" leaves it out,
            "hard" keeps its hard label with NaN as soft label. Quarantined windows are left out and counted.
          windows: "each" gives one row a window; "max" and "mean" pool the windows of a clip into one row.
          mapping: a CSV `student_class,teacher_class` for what names do not find; `softlabels classes` drafts one.
          min_coverage: share of the student's classes that the teacher must have.
          annotations: a CSV `clip_id,start_s,end_s,label` or Raven selection tables (a path, a glob or several),
            which replace the manifest's labels of their clips, window by window.
          annotated_extents: a CSV `clip_id,start_s,end_s` of the stretches that were annotated in full, or "clips"
            for every annotated clip; windows outside are NaN for what was not annotated there.
          annotation_column: the column of a Raven table that holds the label; None is Species, Annotation or Label.
          weak_labels: where in a clip of several windows its label holds: "spread" in all of them, "best" where the
            teacher hears it, NaN in the others.
          other_labels: what a label says that is not in `classes`: "error" raises; "absent" takes it for another
            class, right where people name all they hear: classes not named are 0; "unknown" for nothing, right where
            they name what they were after: a clip with no other label is not annotated; "drop" leaves such clips
            out. Boxes of other classes say nothing.
          canary: refuse a join that the annotations speak against; note one that they do not speak for.
          root: the folder that the manifest's paths are relative to; None is where your own run on this store found
            them if that is there, else the manifest's folder.
          cache_dir: where the join is kept; None is inside the store, or the user's cache if that cannot be written.
        Raises: ManifestError, StoreError: faulty inputs; ClassListError, JoinError: they do not fit together.
        Example:
          >>> store.join("data_manifest.csv", split="train").report.rows
          11
        """
        arguments = locals()
        from softlabels.joins.build import JoinOptions, join

        options = JoinOptions.of(arguments)
        return join(self, manifest, classes=classes, options=options, root=root, cache_dir=cache_dir)
