"""Adapted labels: the soft half that `adapt` makes of a join, kept beside it as a join of its own."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from softlabels.adaptation.adapt import Adaptation, adapt
from softlabels.adaptation.components import row_components
from softlabels.calibration.calibrate import maps_weak
from softlabels.calibration.maps import Method
from softlabels.calibration.report import CalibrationReport
from softlabels.digests import sha256_of
from softlabels.errors import JoinError
from softlabels.evidence.agreement import row_blocks
from softlabels.kept.built_once import cache_folder, open_or_build
from softlabels.kept.soft_file import CheckedRows, open_soft, write_soft
from softlabels.labels.arrays import annotated_clips, unannotated_windows
from softlabels.labels.saved import SavedJoin, open_join, write_join
from softlabels.store.reader import StoreReader
from softlabels.store.stored_rows import StoredRows
from softlabels.threads import in_threads

if TYPE_CHECKING:
    from softlabels.labels.label_rows import LabelRows

VERSION = 2  # its pages have checksums
BLOCK = 1 << 20  # values changed at once


def adapted_join(
    labels: "LabelRows", saved: SavedJoin, store: StoreReader, method: Method, folds: int
) -> tuple[Path | None, CalibrationReport]:
    """Teach the teacher of a join, and write what it gives then.

    Returns: the folder of the new join, None where the labels are best left as they are; and the report.
    Raises: JoinError: pooled windows.
    """
    pooled = labels.windows != "each"
    if pooled and saved.arrays.several_windows().any():
        raise JoinError(f"adapt: windows={labels.windows!r} left no windows to learn from; join with windows='each'")
    arrays, folder = saved.arrays, saved.path.parent if saved.is_kept else cache_folder(store.storage, None)
    clip_ids = arrays.clips["clip_id"].to_pylist()
    rows = StoredRows.find(store, clip_ids, arrays.clip_row, arrays.window_index)
    components = row_components(store, rows, folder)
    blind = np.array([not each.how for each in labels.report.per_class], bool)
    annotated = annotated_clips(
        arrays,
        labels.y_true,
        labels.classes,
        labels.activation,
        pooled=pooled,
        blind=blind if labels.activation == "sigmoid" else None,
    )
    change, report = adapt(
        annotated,
        components,
        labels.classes,
        labels.activation,
        blind=blind,
        unannotated=unannotated_windows(arrays, labels.soft, annotated.columns, pooled=pooled),
        method=method,
        folds=folds,
    )
    if change is None:
        return None, report
    changed = np.ones(len(labels), bool) if maps_weak(annotated) else ~saved.weak[arrays.clip_row]
    fingerprint = sha256_of([VERSION, labels.fingerprint, list(components.shape), report.to_json()])
    path = folder / f"join-{fingerprint}"

    def build(temporary: Path) -> None:
        soft_path, shape = folder / f"soft-{fingerprint}.npy", arrays.soft.shape
        blocks = _blocks(labels, change, components, changed)
        open_or_build(soft_path, lambda: open_soft(soft_path, shape), lambda part: write_soft(part, shape, blocks))
        header = {**saved.header, "fingerprint": fingerprint, "calibration": report.to_json(), "adapted": True}
        write_join(temporary, arrays, header, soft=soft_path)

    open_or_build(path, lambda: open_join(path), build)
    return path, report


def _blocks(
    labels: "LabelRows", change: Adaptation, components: CheckedRows, changed: np.ndarray
) -> Iterator[np.ndarray]:
    """The new soft half, block by block."""
    blocks = ((block,) for block in row_blocks(len(labels), len(labels.classes), BLOCK))
    return in_threads(partial(_block, labels, change, components, changed), blocks)


def _block(
    labels: "LabelRows", change: Adaptation, components: CheckedRows, changed: np.ndarray, block: slice
) -> np.ndarray:
    rows = np.arange(len(labels))[block]
    soft = labels.soft(rows)
    return np.where(changed[rows, None], change.apply(rows, soft, components[rows]), soft)
