"""join(): manifest x store -> JoinedLabels. Rows meet by (clip_id, window_index), never by position.

One row of the result is one window of one manifest clip, in the order of the manifest. Nothing is lost
silently: every window is a row, or it is counted in the report. What is built is kept under the digest of all
that went in, so the same join is found again without reading manifest, receipts or shards.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from softlabels.classes.class_list import ClassList, as_class_list
from softlabels.classes.matching import match_classes
from softlabels.joins.check import check_join
from softlabels.joins.clips import read_clips
from softlabels.joins.hard import hard_half, name_labels, read_boxes
from softlabels.joins.options import JoinInputs, JoinOptions
from softlabels.joins.rows import find_rows
from softlabels.joins.soft_array import soft_array
from softlabels.kept.built_once import cache_folder, open_or_build
from softlabels.labels.arrays import JoinArrays
from softlabels.labels.joined_labels import JoinedLabels
from softlabels.labels.reading.embeddings import noted_embedding
from softlabels.labels.saved import write_join
from softlabels.storage.location import Location, absolute, location
from softlabels.store.reader import StoreReader
from softlabels.store.stored_rows import StoredRows

logger = logging.getLogger(__name__)


def join(
    store: StoreReader,
    manifest: str | Path,
    *,
    classes: ClassList | Sequence[str] | str | Path | None = None,
    options: JoinOptions | None = None,
    root: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> JoinedLabels:
    """Join hard labels from a manifest with soft labels from a store; arguments as in `SoftLabelStore.join`."""
    inputs = JoinInputs(
        store=store,
        manifest=manifest,
        classes=store.classes if classes is None else as_class_list(classes),
        options=options or JoinOptions(),
        root=audio_root(store, manifest, root),
    )
    folder, fingerprint = cache_folder(store.storage, cache_dir), inputs.fingerprint()
    path = folder / f"join-{fingerprint}"
    labels = open_or_build(
        path,
        lambda: JoinedLabels.open(path, root=inputs.root),
        lambda temporary: _build(temporary, inputs, folder, fingerprint),
    )
    for note in labels.report.notes:
        logger.warning("join: %s", note)
    return labels


def audio_root(store: StoreReader, manifest: str | Path | None, root: str | Path | None) -> Location:
    """Below which the recordings of a manifest are: as named, as this user's own run found them, or beside it."""
    if root is not None:
        return location(root)
    return store.audio_root() or (Path() if manifest is None else Path(manifest).resolve().parent)


def _build(path: Path, inputs: JoinInputs, folder: Path, fingerprint: str) -> None:
    """Read everything, match it, check it, and write the join.

    Raises: ManifestError, StoreError: faulty inputs; ClassListError, JoinError: they do not fit together.
    """
    store, options = inputs.store.again(), inputs.options  # the store as it is now: it grows
    inputs = dataclasses.replace(inputs, store=store)
    clips = read_clips(inputs)
    match = match_classes(inputs.classes, store.classes, mapping=options.mapping, min_coverage=options.min_coverage)
    annotated = read_boxes(clips, inputs)
    names = name_labels(clips, annotated, match, inputs)
    if annotated is not None:
        annotated = annotated.only(names.positions.keys())
    clips = clips.without(names.left_out(clips.chosen), annotated)
    rows = find_rows(clips, inputs)
    soft_path, soft = soft_array(store, rows, match, options.windows, folder)
    hard, hard_group, in_time = hard_half(clips, rows, soft, inputs, names=names, annotated=annotated)
    arrays = JoinArrays(
        clips=clips.table.append_column("in_time", pa.array(in_time)),
        clip_row=rows.clip_row,
        window_index=rows.window_index,
        start_s=rows.start / store.spec.window.rate_hz,  # seconds, for people, are made here and nowhere else
        hard=hard,
        hard_group=hard_group,
        soft=soft,
    )
    report = check_join(
        arrays, clips, rows, match, inputs, notes=(*names.notes, *(annotated.notes if annotated else ()))
    )
    header = {
        "fingerprint": fingerprint,
        "report": dataclasses.asdict(report),
        "root": "",  # whoever joins says it: what is kept is the same for all who use a store
        "store": absolute(location(str(store.storage))),
        "classes": list(inputs.classes),
        "activation": store.activation,
        "window": dataclasses.asdict(store.spec.window),
        "windows": options.windows,
        "spec": store.spec.fingerprint(),
        "steps": [],
        "class_trust": None,
        "calibration": None,
        **noted_embedding(store, StoredRows.of(len(rows), rows.target, rows.shard, rows.shard_row)),
    }
    write_join(path, arrays, header, soft=soft_path)
