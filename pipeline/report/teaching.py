"""What the annotated clips of a manifest teach the teacher: labels as they are, calibrated and adapted, held out."""

import tempfile
from pathlib import Path

from softlabels.calibration.report import CalibrationReport
from softlabels.corpus.label_names import OtherLabels
from softlabels.errors import SoftLabelsError
from softlabels.joins.build import join
from softlabels.joins.options import JoinOptions
from softlabels.store.reader import StoreReader


def what_is_taught(
    store: StoreReader,
    manifest: str | Path,
    classes: list[str],
    root: str | Path | None,
    other_labels: OtherLabels = "unknown",
) -> CalibrationReport | str:
    """The report of `recommended()` for the annotated classes, or why there is none.

    Nothing of it is kept: who trains joins with a class list of their own.
    """
    options = JoinOptions(missing="drop", canary=False, min_coverage=0.0, other_labels=other_labels)
    # On Windows the join stays, being open, in the folder for what may be deleted.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            labels = join(store, manifest, classes=classes, options=options, root=root, cache_dir=folder)
            found = labels.recommended().calibration
        except SoftLabelsError as e:
            return str(e)
    return found or "nothing was measured"
