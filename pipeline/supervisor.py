"""run(): the whole job. Manifest and teacher in, a finished store out; only what is missing is done."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import joblib
import pyarrow.compute as pc
from joblib.externals.loky.process_executor import BrokenProcessPool

import softlabels
from pipeline.card import dataset_card
from pipeline.plan import default_shard_windows, lay_out_clip, pack_shards
from pipeline.probe import probe_files
from pipeline.teachers import Teacher, TeacherChoice, load_teacher
from pipeline.worker import ShardStatus, ShardTask, check_teacher, label_and_commit
from softlabels.errors import StoreError
from softlabels.index import LABELLED, QUARANTINED
from softlabels.manifest import Clip, read_manifest
from softlabels.planned import PlannedClip, encode_plan, plan_table
from softlabels.receipts import receipts_digest
from softlabels.spec import LabelSpec, Layout, canonical_json
from softlabels.storage import LocalStorage
from softlabels.store import SoftLabelStore
from softlabels.windows import WindowSpec

PROBE_CACHE = "probe_cache.jsonl"
SHARD_TIMEOUT_S = 24 * 3600
DEFAULT_MIN_PROBABILITY = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """What the user may choose that changes bytes; None means the store's own setting, or the default."""

    overlap_s: float | None = None
    layout: Layout | None = None
    min_probability: float | None = None
    shard_windows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the user may choose that never changes a byte.

    jobs: worker processes; -1 is one a core.
    on_error: "skip" quarantines and goes on, "fail" stops before committing a shard with a quarantined window.
    """

    jobs: int = -1
    on_error: Literal["skip", "fail"] = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvents:
    """Calls by which a caller shows progress; each may be left out."""

    on_teacher: Callable[[Teacher], None] = lambda teacher: None
    on_probe: Callable[[int, int], None] = lambda files, total: None
    on_plan: Callable[[int, int, WindowSpec], None] = lambda windows, shards, window: None
    on_shard: Callable[[ShardStatus], None] = lambda status: None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did, and what the store holds now.

    clips, windows: in the store's plan; labelled, quarantined, missing: windows of it.
    left: clips in the store that are no longer in the manifest; new_windows, shards_done: by this run.
    different: shards that came out with other bytes than the store already holds; those stand.
    stopped: why the run gave up early, or "".
    """

    store: Path
    clips: int
    windows: int
    labelled: int
    quarantined: int
    missing: int
    left: int
    new_windows: int
    shards_done: int
    shard_bytes: int
    different: tuple[int, ...]
    stopped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Everything decided before the first window is scored."""

    clips: list[Clip]
    root: Path
    teacher: Teacher
    choice: TeacherChoice
    spec: LabelSpec
    new: list[PlannedClip]
    store: SoftLabelStore | None


def run(
    manifest: str | Path | list[Clip],
    store: str | Path,
    *,
    teacher: str | TeacherChoice = "birdnet",
    jobs: int = -1,
    root: str | Path | None = None,
    labelling: LabelOptions | None = None,
    on_error: Literal["skip", "fail"] = "skip",
    events: RunEvents | None = None,
) -> RunSummary:
    """Label every clip of a manifest into a store; finished shards are left alone.

    Args:
      manifest: the CSV, whose rows are checked before anything is written; or clips, and then a root.
      store: the directory; made where there is none, extended where the manifest has grown.
      teacher: "birdnet", "module:factory", or a `TeacherChoice`.
      jobs: worker processes; -1 is one a core.
      root: what the manifest's paths are relative to; None is the manifest's folder.
    Raises: ManifestError, TeacherError, StoreError: before anything is labelled, with what to do.
    """
    events = events or RunEvents()
    choice = TeacherChoice(kind=teacher) if isinstance(teacher, str) else teacher
    options = RunOptions(jobs=jobs, on_error=on_error)
    clips, audio_root = read_clips(manifest, root)
    prepared = prepare(clips, audio_root, store, choice, labelling or LabelOptions(), jobs=jobs, events=events)
    opened = _write_plan(Path(store), prepared)
    statuses, stopped = _label_missing(opened, prepared, options, events)
    return _close(Path(store), prepared, statuses, stopped)


def read_clips(manifest: str | Path | list[Clip], root: str | Path | None) -> tuple[list[Clip], Path]:
    """The clips of a manifest, and the folder that their paths are relative to."""
    if not isinstance(manifest, list):
        return read_manifest(manifest), Path(root) if root is not None else Path(manifest).resolve().parent
    if root is None:
        raise ValueError("root: clips that come from no file need the folder their paths are relative to")
    return manifest, Path(root)


def prepare(
    clips: list[Clip],
    root: Path,
    store: str | Path,
    choice: TeacherChoice,
    labelling: LabelOptions,
    *,
    jobs: int,
    events: RunEvents,
) -> Preparation:
    """Check everything that can be checked, probe the audio, and plan; writes nothing but the probe cache."""
    existing = _existing_store(Path(store))
    teacher = load_teacher(choice)
    spec = _spec(teacher, choice, labelling, existing)
    events.on_teacher(teacher)
    files = len({clip.path for clip in clips})
    probes = probe_files(
        root,
        (clip.path for clip in clips),
        cache=Path(store) / PROBE_CACHE,
        jobs=jobs,
        on_probed=lambda done: events.on_probe(done, files),
    )
    laid_out = [lay_out_clip(clip, probes[clip.path], spec.window) for clip in clips]
    new = _new_clips(laid_out, existing)
    if existing is None and labelling.shard_windows is None:
        shard_windows = default_shard_windows(sum(clip.windows for clip in new))
        spec = dataclasses.replace(spec, shard_windows=shard_windows)
    first_shard = existing.planned_shards if existing else 0
    packed = pack_shards(new, shard_windows=spec.shard_windows, first_shard=first_shard)
    return Preparation(clips=clips, root=root, teacher=teacher, choice=choice, spec=spec, new=packed, store=existing)


def _existing_store(path: Path) -> SoftLabelStore | None:
    """The store to go on with, or None. Raises: StoreError: the folder is something else."""
    if (path / "store.json").is_file():
        return softlabels.open(path)
    if path.exists() and not path.is_dir():
        raise StoreError(f"store '{path}': expected a folder, got a file; name another one with -o")
    foreign = {entry.name for entry in path.iterdir()} - {PROBE_CACHE} if path.is_dir() else set()
    if any(not name.startswith(".tmp-") and name not in ("classes.txt", "README.md", "plan") for name in foreign):
        raise StoreError(
            f"store '{path}': the folder holds other things ({sorted(foreign)[0]!r}) and no store.json; name another "
            "folder with -o"
        )
    return None


def _spec(
    teacher: Teacher, choice: TeacherChoice, labelling: LabelOptions, existing: SoftLabelStore | None
) -> LabelSpec:
    """The settings of this run. Raises: StoreError: the store was made with others."""
    layout = labelling.layout or (existing.spec.layout if existing else "dense")
    if layout == "dense" and labelling.min_probability is not None:
        raise ValueError("--min-probability goes with --layout sparse; a dense store keeps every probability")
    if layout == "sparse":
        stored = existing.spec.min_probability if existing else 0.0
        min_probability = labelling.min_probability or stored or DEFAULT_MIN_PROBABILITY
    else:
        min_probability = 0.0
    if labelling.overlap_s is None and existing:
        window = existing.spec.window
    else:
        window = WindowSpec.from_overlap(teacher.rate_hz, teacher.window_samples, overlap_s=labelling.overlap_s or 0.0)
    spec = LabelSpec(
        teacher=teacher.name,
        teacher_digest=teacher.digest,
        class_digest=teacher.classes.digest,
        activation=teacher.activation,
        window=window,
        shard_windows=labelling.shard_windows or (existing.spec.shard_windows if existing else 1),
        batch_size=teacher.batch_size,
        portable=choice.portable,
        layout=layout,
        min_probability=min_probability,
    )
    if existing and spec != existing.spec:
        raise StoreError(
            f"store '{existing.storage}' was made with other settings: "
            f"{'; '.join(existing.spec.differences(spec))}; use those, or label into another store with -o"
        )
    return spec


def _new_clips(laid_out: list[PlannedClip], existing: SoftLabelStore | None) -> list[PlannedClip]:
    """The clips that no plan has yet, or only as unusable while now they can be read.

    Raises: StoreError: the audio or the stretch of a planned clip has changed.
    """
    if existing is None:
        return laid_out
    planned = existing.planned_by_clip()
    new, changed = [], []
    for clip in laid_out:
        before = planned.get(clip.clip_id)
        if before is None or (before.reason and not clip.reason):
            new.append(clip)
        elif not before.reason and not clip.reason and _identity(before) != _identity(clip):
            changed.append(clip.clip_id)
    if changed:
        raise StoreError(
            f"store '{existing.storage}': the audio, start_s or end_s of {len(changed)} labelled clips has changed: "
            f"{', '.join(map(repr, changed[:10]))}; restore them, give them new clip_ids, or label into another "
            "store with -o"
        )
    return new


def _identity(clip: PlannedClip) -> tuple[int, int, str]:
    return clip.start, clip.end, clip.sha256


def _write_plan(path: Path, prepared: Preparation) -> SoftLabelStore:
    """Make the store, or extend it, so that it holds the plan; returns it opened."""
    storage = LocalStorage(path)
    if prepared.store is None:
        header = {
            "format_version": prepared.spec.format_version,
            "fingerprint": prepared.spec.fingerprint(),
            "spec": prepared.spec.to_json(),
        }
        storage.put("classes.txt", prepared.teacher.classes.to_text().encode())
        storage.put("README.md", dataset_card(prepared.spec, prepared.teacher).encode())
        storage.put_if_absent("store.json", json.dumps(header, indent=2).encode() + b"\n")
    if prepared.new:
        number = 1 + (len(prepared.store.plans) if prepared.store else 0)
        data = encode_plan(plan_table(prepared.new))
        key = f"plan/{number:04d}.parquet"
        if not storage.put_if_absent(key, data) and storage.get(key) != data:
            raise StoreError(f"store '{path}': another run planned at the same time; run again")
    hints = {"audio_root": str(prepared.root.resolve()), "teacher": dataclasses.asdict(prepared.choice)}
    storage.put("run.json", json.dumps(hints, indent=2).encode() + b"\n")
    return softlabels.open(path)


def _label_missing(
    store: SoftLabelStore, prepared: Preparation, options: RunOptions, events: RunEvents
) -> tuple[list[ShardStatus], str]:
    """Label what is planned and not committed; returns what was done and why it stopped early, or ""."""
    check_teacher(prepared.teacher, store.spec)
    missing = store.missing_shards()
    tasks = _tasks(store, missing, prepared, options)
    windows = sum(clip.windows for task in tasks for clip in task.clips)
    events.on_plan(windows, len(tasks), store.spec.window)
    statuses: list[ShardStatus] = []
    try:
        for status in _in_workers(tasks, options.jobs):
            statuses.append(status)
            events.on_shard(status)
            if status.outcome is None:
                return statuses, f"--on-error fail: {status.first_reason}"
    except BrokenProcessPool as e:
        return statuses, f"a worker process died: {str(e).splitlines()[0]}"
    return statuses, ""


def _tasks(store: SoftLabelStore, shards: list[int], prepared: Preparation, options: RunOptions) -> list[ShardTask]:
    return [
        ShardTask(
            shard=shard,
            clips=tuple(clips),
            spec=store.spec,
            teacher=prepared.choice,
            root=str(prepared.root),
            store=str(store.storage),
            keep_quarantined=options.on_error == "skip",
        )
        for shard, clips in store.planned(shards).items()
    ]


def _in_workers(tasks: list[ShardTask], jobs: int) -> Iterator[ShardStatus]:
    """Statuses as shards are finished, in any order."""
    workers = min(joblib.effective_n_jobs(jobs), len(tasks))
    if workers == 0:
        return
    parallel = joblib.Parallel(
        n_jobs=workers,
        backend="loky",
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="2*n_jobs",
        timeout=SHARD_TIMEOUT_S if workers > 1 else None,  # joblib runs a single job right here
    )
    yield from parallel(joblib.delayed(label_and_commit)(task) for task in tasks)


def _close(path: Path, prepared: Preparation, statuses: list[ShardStatus], stopped: str) -> RunSummary:
    """Re-read the store from disk, close it if nothing is missing, and sum up."""
    store = softlabels.open(path)
    index = store.index
    labelled, quarantined = index.count(LABELLED), index.count(QUARANTINED)
    missing_shards = store.missing_shards()
    if not missing_shards:
        _write_success(store)
    in_manifest = {clip.clip_id for clip in prepared.clips}
    return RunSummary(
        store=path,
        clips=len(index.clip_ids),
        windows=len(index),
        labelled=labelled,
        quarantined=quarantined,
        missing=len(index) - labelled - quarantined,
        left=sum(clip_id not in in_manifest for clip_id in index.clip_ids),
        new_windows=sum(status.rows for status in statuses if status.outcome),
        shards_done=len(statuses),
        shard_bytes=sum(receipt.size for receipt in store.receipts.values()),
        different=tuple(sorted(status.shard for status in statuses if status.outcome == "different")),
        stopped=stopped,
    )


def _write_success(store: SoftLabelStore) -> None:
    """`_SUCCESS-NNNN.json` for every plan: the shards it names are committed, every window accounted for."""
    for number, plan in enumerate(store.plans, start=1):
        shards = plan["shard"].unique().to_pylist()
        receipts = {shard: store.receipts[shard] for shard in shards}
        rows = sum(receipt.rows for receipt in receipts.values())
        quarantined = sum(entry.windows for receipt in receipts.values() for entry in receipt.quarantined)
        planned = pc.sum(plan["windows"]).as_py()
        if rows + quarantined != planned:
            raise StoreError(
                f"store '{store.storage}': plan {number} has {planned} windows, its receipts account for {rows} "
                f"labelled and {quarantined} quarantined; a receipt was edited"
            )
        success = {"plan": number, "shards": len(shards), "rows": rows, "quarantined": quarantined}
        success["receipts"] = receipts_digest(receipts)
        key, data = f"_SUCCESS-{number:04d}.json", canonical_json(success) + b"\n"
        if not store.storage.exists(key) or store.storage.get(key) != data:
            store.storage.put(key, data)
