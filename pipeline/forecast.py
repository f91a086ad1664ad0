"""What a run will cost, from its plan and a few windows really scored."""

import dataclasses
import time
from dataclasses import dataclass

import joblib
import numpy as np

from pipeline.label import keep_classes, label_shard
from pipeline.prepare import Preparation
from softlabels.planned import PlannedClip
from softlabels.shard import ShardRows, encode_shard
from softlabels.spec import LabelSpec

TIMED_WINDOWS = 16
SPARSE_AT = 1e-4
SUBSET_CLASSES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is still to do. seconds and bytes are estimates; bytes are of shard files, by layout."""

    clips: int
    unusable_clips: int
    windows: int
    shards: int
    seconds: float
    dense_bytes: int
    sparse_bytes: int
    subset_bytes: int


def forecast(prepared: Preparation, *, jobs: int) -> Forecast:
    """Plan, score a few windows spread over the corpus, and extrapolate."""
    todo = _still_to_do(prepared)
    usable = [clip for clip in todo if not clip.reason]
    windows = sum(clip.windows for clip in usable)
    shards = len({clip.shard for clip in todo})
    seconds, rows = _time_windows(usable, prepared)
    workers = max(1, min(joblib.effective_n_jobs(jobs), shards))

    def size(rows: ShardRows, spec: LabelSpec) -> int:
        empty = len(encode_shard(_take(rows, slice(0)), spec, shard=0))
        full = len(encode_shard(rows, spec, shard=0)) if len(rows) else empty
        return round(empty * shards + (full - empty) / max(1, len(rows)) * windows)

    dense = dataclasses.replace(prepared.spec, layout="dense", min_probability=0.0)
    sparse = dataclasses.replace(prepared.spec, layout="sparse", min_probability=SPARSE_AT)
    likely = np.argsort(-rows.probabilities.sum(axis=0), kind="stable")[:SUBSET_CLASSES]
    subset = dataclasses.replace(rows, probabilities=rows.probabilities[:, likely])
    return Forecast(
        clips=len({clip.clip_id for clip in todo}),
        unusable_clips=len({clip.clip_id for clip in todo if clip.reason}),
        windows=windows,
        shards=shards,
        seconds=seconds * windows / workers,
        dense_bytes=size(rows, dense),
        sparse_bytes=size(rows, sparse),
        subset_bytes=size(subset, dense),
    )


def _still_to_do(prepared: Preparation) -> list[PlannedClip]:
    store = prepared.store
    committed = store.planned(store.missing_shards()) if store is not None else {}
    return [clip for clips in committed.values() for clip in clips] + prepared.new


def _time_windows(usable: list[PlannedClip], prepared: Preparation) -> tuple[float, ShardRows]:
    """Seconds a window, decoding included, and the rows; the first window only warms up."""
    spec = prepared.spec
    step = max(1, len(usable) // TIMED_WINDOWS)
    first_windows = [dataclasses.replace(clip, windows=1) for clip in usable[::step][:TIMED_WINDOWS]]
    label_shard(first_windows[:1], prepared.teacher, spec.window, prepared.root, jitters=spec.jitters)
    began = time.perf_counter()
    rows, _ = label_shard(first_windows, prepared.teacher, spec.window, prepared.root, jitters=spec.jitters)
    seconds = (time.perf_counter() - began) / max(1, len(first_windows))
    if spec.keeps_some:
        rows = keep_classes(rows, np.array([prepared.teacher.classes.index(name) for name in prepared.classes]))
    return seconds, rows


def _take(rows: ShardRows, which: slice) -> ShardRows:
    return dataclasses.replace(rows, probabilities=rows.probabilities[which], **_taken(rows.keys(), which))


def _taken(columns: dict[str, np.ndarray], which: slice) -> dict[str, np.ndarray]:
    return {name: values[which] for name, values in columns.items()}
