"""join(): manifest x store -> JoinedLabels. Rows meet by (clip_id, window_index), never by position.

One row of the result is one window of one manifest clip, in the order of the manifest. Nothing is lost
silently: every window is a row, or it is counted in the report. What is built is kept under the digest of all
that went in, so the same join is found again without reading manifest, receipts or shards.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from softlabels.annotation_tables import annotation_files, read_annotations
from softlabels.annotations import Annotations
from softlabels.audio_root import below_root
from softlabels.class_mapping import MIN_COVERAGE, match_classes
from softlabels.classes import ClassList, as_class_list
from softlabels.errors import JoinError
from softlabels.guided import best_window_labels
from softlabels.hard_labels import HardLabels, label_positions
from softlabels.index import StoreIndex
from softlabels.join_check import check_identity, look_at
from softlabels.join_report import JoinReport
from softlabels.joined import JoinedLabels
from softlabels.joined_rows import JoinedRows, Missing, find_rows, pool_rows
from softlabels.kept import cache_folder, open_or_build
from softlabels.location import Location, location
from softlabels.manifest import Clip, read_manifest
from softlabels.saved_join import JOIN_VERSION, JoinArrays, write_join
from softlabels.soft_array import Pooling, soft_array
from softlabels.spec import canonical_json
from softlabels.windows import WindowSpec

if TYPE_CHECKING:
    from softlabels.store import SoftLabelStore

logger = logging.getLogger(__name__)
WeakLabels = Literal["spread", "best"]
_FILES = ("mapping", "annotations", "annotated_extents")  # of JoinOptions; they count by content
_AUDIO = (
    "start",
    "end",
    "frames",
    "rate_hz",
    "channels",
    "container",
    "size",
    "sha256",
    "reason",
)  # of a clip, as planned


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """What a join depends on besides store, manifest and class list; see `join`."""

    split: str | None = None
    missing: Missing = "error"
    windows: Pooling = "each"
    mapping: str | Path | None = None
    min_coverage: float = MIN_COVERAGE
    annotations: str | Path | Sequence[str | Path] | None = None
    annotated_extents: str | Path | None = None
    annotation_column: str | None = None
    weak_labels: WeakLabels = "spread"
    canary: bool = True

    def __post_init__(self) -> None:
        _check_choice("missing", self.missing, ("error", "drop", "hard"))
        _check_choice("windows", self.windows, ("each", "max", "mean"))
        _check_choice("weak_labels", self.weak_labels, ("spread", "best"))
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage: expected a number from 0 to 1, got {self.min_coverage}")
        if self.windows != "each" and (self.annotations is not None or self.weak_labels == "best"):
            raise ValueError(
                f"windows={self.windows!r}: annotations in time and weak_labels='best' are about single windows; join "
                "with windows='each'"
            )
        if self.annotated_extents is not None and self.annotations is None:
            raise ValueError("annotated_extents: expected `annotations` beside them, got None")


def join(
    store: "SoftLabelStore",
    manifest: str | Path,
    *,
    classes: ClassList | Sequence[str] | str | Path | None = None,
    options: JoinOptions | None = None,
    root: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> JoinedLabels:
    """Join hard labels from a manifest with soft labels from a store; arguments as in `SoftLabelStore.join`."""
    options = options or JoinOptions()
    student = store.classes if classes is None else as_class_list(classes)
    folder = cache_folder(store, cache_dir)
    fingerprint = _fingerprint(store, manifest, student, options)
    path = folder / f"join-{fingerprint}"
    audio_root = _audio_root(store, manifest, root)

    def build(temporary: Path) -> None:
        _build(temporary, store, manifest, student, options, folder, fingerprint=fingerprint, root=audio_root)
        pa.default_memory_pool().release_unused()  # at ten million rows it kept 0.4 GB for nobody

    labels = open_or_build(path, lambda: JoinedLabels.open(path, root=audio_root), build)
    for note in labels.report.notes:
        logger.warning("join: %s", note)
    return labels


def _fingerprint(store: "SoftLabelStore", manifest: str | Path, student: ClassList, options: JoinOptions) -> str:
    """sha256 of all that a join depends on: files by content, the store by its spec and its listing."""
    choices = {name: value for name, value in dataclasses.asdict(options).items() if name not in _FILES}
    annotations = [] if options.annotations is None else annotation_files(options.annotations)
    sources = [manifest, options.mapping, options.annotated_extents, *annotations]  # each in its place, None too
    files = [file and (Path(file).name, _digest(file)) for file in sources]  # Raven tables name recordings
    parts = [JOIN_VERSION, store.spec.fingerprint(), store.state(), student.digest, choices, files]
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def _digest(file: str | Path) -> str:
    """sha256 of a file; "" where there is none, which its reader will say better."""
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def _build(
    path: Path,
    store: "SoftLabelStore",
    manifest: str | Path,
    student: ClassList,
    options: JoinOptions,
    folder: Path,
    *,
    fingerprint: str,
    root: Location,
) -> None:
    """Read everything, match it, check it, and write the join.

    Raises: ManifestError, StoreError: faulty inputs; ClassListError, JoinError: they do not fit together.
    """
    store = type(store)(store.storage)  # as it is now: `store.state()` was, and a store grows
    everything = below_root(read_manifest(manifest), root)
    clips = _clips_of_split(everything, options.split, manifest)
    match = match_classes(student, store.classes, mapping=options.mapping, min_coverage=options.min_coverage)
    annotated = _annotations(options, everything)
    names = {name for clip in clips for name in clip.labels or ()} | (annotated.labels if annotated else set())
    unsure = {name for clip in clips for name in clip.unsure}
    positions = label_positions(names, student, manifest, unsure=unsure)
    index = store.index
    del store.plans  # half a gigabyte of a million clips, of which the index has all that is needed
    rows = find_rows(clips, index, options.missing, str(store.storage))
    if options.windows != "each":
        rows = pool_rows(rows)
    soft_path, soft = soft_array(store, rows, match, options.windows, folder)
    table = _clip_table(clips, index)
    planned = index.clips
    del index, store.index  # 25 bytes a window that nothing needs any more
    check_identity(clips, table, str(store.storage))
    hard, group = _clip_labels(clips, rows, soft, positions, table, options.weak_labels)
    if annotated is not None:
        position = {clip.clip_id: i for i, clip in enumerate(everything)}
        places = np.array([position[clip.clip_id] for clip in clips], np.int64)
        hard, group = _labels_in_time(hard, group, annotated, rows, table, store.spec.window, places, positions)
    hard, which = hard.without_doubles()
    arrays = JoinArrays(
        clips=table,
        clip=rows.clip,
        window_index=rows.window_index,
        start_s=rows.start_s,
        hard=hard,
        hard_group=which[group],
        soft=soft,
    )
    report = look_at(arrays, rows, clips, everything, planned, student, match, store.activation, options)
    header = {"fingerprint": fingerprint, "root": str(root), **_described(store, student, options, report)}
    write_join(path, arrays, header, soft=soft_path)


def _described(store: "SoftLabelStore", student: ClassList, options: JoinOptions, report: JoinReport) -> dict[str, Any]:
    """What join.json says besides fingerprint, root and files."""
    window = store.spec.window
    return {
        "classes": list(student),
        "activation": store.activation,
        "window": {
            "rate_hz": window.rate_hz,
            "window_samples": window.window_samples,
            "hop_samples": window.hop_samples,
        },
        "windows": options.windows,
        "report": report.to_json(),
        "spec": store.spec.fingerprint(),
        "steps": [],
        "class_trust": None,
        "calibration": None,
    }


def _annotations(options: JoinOptions, everything: list[Clip]) -> Annotations | None:
    if options.annotations is None:
        return None
    return read_annotations(
        options.annotations, everything, extents=options.annotated_extents, label_column=options.annotation_column
    )


def _clip_labels(
    clips: list[Clip],
    rows: JoinedRows,
    soft: np.ndarray,
    positions: dict[str, int],
    table: pa.Table,
    weak_labels: WeakLabels,
) -> tuple[HardLabels, np.ndarray]:
    """The manifest's labels, and (rows,) which group of them each row has."""
    spread = HardLabels.of_clips(clips, positions)
    if weak_labels == "spread":
        return spread, rows.clip
    alone = table["windows"].to_numpy() <= 1  # a clip of several windows stays one if some of them have no row
    return best_window_labels(rows.clip, spread, soft, alone), np.arange(len(rows))


def _labels_in_time(
    hard: HardLabels,
    group: np.ndarray,
    annotated: Annotations,
    rows: JoinedRows,
    table: pa.Table,
    window: WindowSpec,
    places: np.ndarray,
    positions: dict[str, int],
) -> tuple[HardLabels, np.ndarray]:
    """Let annotations replace the manifest's labels of their clips; places: (clips,) positions in the whole manifest.

    All windows of a clip are laid out, with or without a row here, so that a box of a quarantined window is not given
    to its neighbour.
    """
    here = np.flatnonzero(np.isin(places, annotated.clips) & np.isin(np.arange(len(places)), rows.clip))
    windows = np.maximum(table["windows"].to_numpy()[here], 1)
    first_row = np.searchsorted(rows.clip, here.astype(rows.clip.dtype))
    hop_s = window.hop_samples / window.rate_hz
    origin_s = rows.start_s[first_row] - rows.window_index[first_row] * hop_s
    first = np.cumsum(windows) - windows  # of each clip's windows, all laid out in a row
    within = np.arange(windows.sum()) - np.repeat(first, windows)
    ends = np.full(places.max(initial=-1) + 1, np.inf)
    rate = table["rate_hz"].to_numpy()
    ends[places] = np.where(rate > 0, table["end"].to_numpy() / np.maximum(rate, 1), np.inf)
    labels = annotated.label_windows(
        np.repeat(places[here], windows),
        np.repeat(origin_s, windows) + within * hop_s,
        window_s=window.window_s,
        positions=positions,
        clip_ends=ends,
    )
    in_time = np.flatnonzero(np.isin(rows.clip, here))
    laid_out = first[np.searchsorted(here, rows.clip[in_time])] + rows.window_index[in_time]
    group = group.astype(np.int64)
    group[in_time] = len(hard) + laid_out
    return hard.followed_by(labels), group


def _clip_table(clips: list[Clip], index: StoreIndex) -> pa.Table:
    """One row a clip: what the manifest says, and its file as planned; rate 0 and a reason where it never was."""
    span = index.spans_of([clip.clip_id for clip in clips])  # (clips, 2)
    known = span[:, 1] > span[:, 0]
    position = np.where(known, index.clip[np.minimum(span[:, 0], max(len(index) - 1, 0))] if len(index) else 0, -1)
    taken = index.clips.select(_AUDIO).take(pa.array(position, pa.int64(), mask=~known))
    columns = {name: [getattr(clip, name) for clip in clips] for name in ("clip_id", "path", "split", "fold")}
    columns["label"] = [None if clip.labels is None else ";".join(clip.labels) for clip in clips]
    given = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for name in _AUDIO:
        column = taken[name]
        nothing = "never planned" if name == "reason" else "" if pa.types.is_string(column.type) else 0
        given = given.append_column(name, column.fill_null(nothing))
    return given.append_column("windows", pa.array(np.where(known, span[:, 1] - span[:, 0], 0), pa.int64()))


def _audio_root(store: "SoftLabelStore", manifest: str | Path, root: str | Path | None) -> Location:
    if root is not None:
        return location(root)
    hinted = store.hints().get("audio_root")
    if hinted and (isinstance(location(hinted), str) or Path(hinted).is_dir()):
        return location(hinted)
    return Path(manifest).resolve().parent


def _clips_of_split(clips: list[Clip], split: str | None, manifest: str | Path) -> list[Clip]:
    if split is None:
        return clips
    chosen = [clip for clip in clips if clip.split == split]
    if not chosen:
        have = sorted({clip.split for clip in clips})
        raise JoinError(f"manifest '{manifest}': no clip has split {split!r}; it has {', '.join(map(repr, have))}")
    return chosen


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
