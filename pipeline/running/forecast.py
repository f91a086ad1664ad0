"""What a run will cost, from its plan and a few windows really scored."""

import dataclasses
import os
import time
from dataclasses import dataclass

import joblib
import numpy as np

from pipeline.labelling.label import keep_classes, label_shard
from pipeline.planning.components import DEFAULT_COMPONENTS, FITTED_WINDOWS
from pipeline.planning.prepare import Preparation
from softlabels.digests import forget_known
from softlabels.records.plan_file import PlannedClip
from softlabels.records.shard import ShardRows, encode_shard
from softlabels.records.spec import LabelSpec

TIMED_CLIPS, TIMED_WINDOWS = 8, 8
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
    bytes_dense: int
    bytes_sparse: int
    bytes_100_classes: int


def forecast(prepared: Preparation, *, jobs: int) -> Forecast:
    """Plan, score a few windows spread over the corpus, and extrapolate."""
    store = prepared.store
    missing = store.planned(store.missing_shards()) if store is not None else {}
    todo = [clip for clips in missing.values() for clip in clips] + prepared.new
    usable = [clip for clip in todo if not clip.reason]
    windows = sum(clip.windows for clip in usable)
    shards = len({clip.shard for clip in todo})
    workers = max(1, min(joblib.effective_n_jobs(jobs), shards))
    again = min(FITTED_WINDOWS, windows) / prepared.spec.jitters if prepared.components.to_fit else 0
    spec = _with_components(prepared.spec, prepared.spec.components or prepared.components.to_fit)
    a_clip, a_window, rows = _time_windows(usable, dataclasses.replace(prepared, spec=spec), workers)

    def size(rows: ShardRows, spec: LabelSpec) -> int:
        empty = len(encode_shard(rows.take(slice(0)), spec, shard=0))
        full = len(encode_shard(rows, spec, shard=0)) if len(rows) else empty
        return round(empty * shards + (full - empty) / max(1, len(rows)) * windows)

    dense = dataclasses.replace(spec, layout="dense", min_probability=0.0)
    sparse = dataclasses.replace(spec, layout="sparse", min_probability=SPARSE_AT)
    likely = np.argsort(-rows.probabilities.sum(axis=0), kind="stable")[:SUBSET_CLASSES]
    subset, subset_spec = rows, dense
    if not dense.keeps_some:
        subset_spec = _with_components(dense, DEFAULT_COMPONENTS)
        subset = _made_up(keep_classes(rows, likely), DEFAULT_COMPONENTS)
    elif len(likely) < rows.probabilities.shape[1]:
        subset = dataclasses.replace(rows, probabilities=rows.probabilities[:, likely])
    return Forecast(
        clips=len({clip.clip_id for clip in todo}),
        unusable_clips=len({clip.clip_id for clip in todo if clip.reason}),
        windows=windows,
        shards=shards,
        seconds=(a_clip * len(usable) + a_window * (windows - len(usable))) / workers * (1 + again / max(1, windows)),
        bytes_dense=size(rows, dense),
        bytes_sparse=size(rows, sparse),
        bytes_100_classes=size(subset, subset_spec),
    )


def _with_components(spec: LabelSpec, count: int) -> LabelSpec:
    """The spec with so many components, which may be yet to be fitted."""
    if not count:
        return spec
    everything, digest = spec.teacher_class_digest or spec.class_digest, spec.component_digest or "none yet"
    return dataclasses.replace(spec, teacher_class_digest=everything, components=count, component_digest=digest)


def _made_up(rows: ShardRows, components: int) -> ShardRows:
    """Rows with noise for components: as random to the compression as real ones."""
    noise = np.random.Generator(np.random.PCG64(0)).normal(size=(len(rows), components))
    return dataclasses.replace(rows, components=noise.astype(np.float32) if components else None)


def _time_windows(usable: list[PlannedClip], prepared: Preparation, workers: int) -> tuple[float, float, ShardRows]:
    """Seconds that a worker takes for the first window of a clip, with all that comes with a file, and for each further
    one, encoding included; and rows to see how well they compress.

    One window of some clips is timed, then some windows of each: what a file costs once must not be taken for what
    every window costs.
    """
    chosen = usable[:: max(1, len(usable) // TIMED_CLIPS)][:TIMED_CLIPS]
    short, long = ([dataclasses.replace(c, windows=min(c.windows, n)) for c in chosen] for n in (1, TIMED_WINDOWS))
    _timed(short[:1], prepared, workers)  # warms up
    of_short, rows = _timed(short, prepared, workers)
    further = sum(clip.windows for clip in long) - len(long)
    a_clip, a_window = of_short / max(1, len(short)), 0.0
    if further:
        of_long, rows = _timed(long, prepared, workers)
        a_window = max(0.0, of_long - of_short) / further
    return a_clip, a_window, rows


def _timed(clips: list[PlannedClip], prepared: Preparation, workers: int) -> tuple[float, ShardRows]:
    """Seconds that a worker takes for some stretches where every core has a worker, and their rows."""
    spec = prepared.spec
    forget_known()  # every file has to be digested once
    began, cpu_began = time.perf_counter(), time.process_time()
    embedded = bool(spec.embedding)
    rows, _ = label_shard(clips, prepared.teacher, spec.window, prepared.root, jitters=spec.jitters, embedded=embedded)
    if spec.keeps_some:
        kept = np.array([prepared.teacher.classes.index(name) for name in prepared.classes])
        rows = _made_up(keep_classes(rows, kept), spec.components)
    encode_shard(rows, dataclasses.replace(spec, layout="dense", min_probability=0.0), shard=0)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return max(wall, cpu * min(1.0, workers / (os.cpu_count() or 1))), rows  # here its thread had another core
