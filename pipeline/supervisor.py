"""run(): the whole job. Manifest and teacher in, a finished store out; only what is missing is done."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import joblib
import pyarrow.compute as pc

import softlabels
from pipeline.prepare import LabelOptions, Preparation, prepare, read_clips, write_plan
from pipeline.rounds import Rounds
from pipeline.teachers import Teacher, TeacherChoice
from pipeline.worker import ShardStatus, ShardTask, check_teacher
from softlabels.audio import DEFAULT_BUDGET, AudioBudget
from softlabels.errors import StorageFullError, StoreError
from softlabels.index import LABELLED, QUARANTINED
from softlabels.manifest import Clip
from softlabels.planned import PlannedClip
from softlabels.receipts import success_bytes
from softlabels.store import SoftLabelStore
from softlabels.windows import WindowSpec

SWEEP_AFTER_S = 24 * 3600  # younger files may belong to a run that is still writing


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the user may choose that never changes a byte.

    jobs: worker processes; -1 is one a core.
    backend: "loky" works in processes, "sequential" in this one, where a crash cannot be survived.
    on_error: "skip" quarantines and goes on, "fail" stops before a shard with a quarantined window is committed.
    retry_quarantined: try permanent faults again too, not only transient ones.
    strict: refuse to add to a store that another numerics class made.
    timeout_s: time limit of a shard; None is far beyond what any teacher needs.
    budget: how much an audio file may ask for; one that asks for more is quarantined.
    """

    jobs: int = -1
    backend: Literal["loky", "sequential"] = "loky"
    on_error: Literal["skip", "fail"] = "skip"
    retry_quarantined: bool = False
    strict: bool = False
    timeout_s: float | None = None
    budget: AudioBudget = DEFAULT_BUDGET


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvents:
    """Calls by which a caller shows progress; each may be left out."""

    on_probe: Callable[[int, int], None] = lambda files, total: None
    on_plan: Callable[[int, int, WindowSpec, Teacher], None] = lambda windows, shards, window, teacher: None
    on_shard: Callable[[ShardStatus], None] = lambda status: None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did, and what the store holds now.

    clips, windows: in the store's plan; labelled, quarantined, missing: windows of it.
    left: clips in the store that are no longer in the manifest; new_windows, shards_done: by this run.
    different: shards that came out with other bytes than the store already holds; those stand.
    deferred: why work was put off to a later run; numerics_classes: how many kinds of machine made the store.
    stopped: why the run gave up early, or ""; resumable: whether that was the machine's fault.
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
    deferred: tuple[str, ...]
    numerics_classes: int
    stopped: str = ""
    resumable: bool = False


def run(
    manifest: str | Path | list[Clip],
    store: str | Path,
    *,
    teacher: str | TeacherChoice = "birdnet",
    jobs: int = -1,
    root: str | Path | None = None,
    labelling: LabelOptions | None = None,
    options: RunOptions | None = None,
    events: RunEvents | None = None,
) -> RunSummary:
    """Label every clip of a manifest into a store; finished shards are left alone.

    Args:
      manifest: the CSV, whose rows are checked before anything is written; or clips, and then a root.
      store: the directory; made where there is none, extended where the manifest has grown.
      teacher: "birdnet", "module:factory", or a `TeacherChoice`.
      jobs: worker processes; -1 is one a core.
      root: what the manifest's paths are relative to; None is the manifest's folder.
      labelling: what changes bytes; fixed once the store is made.
      options: what does not; its `jobs` gives way to the argument.
      events: calls that show progress.
    Raises: ManifestError, TeacherError, StoreError: before anything is labelled, with what to do.
    """
    events, options = events or RunEvents(), options or RunOptions()
    clips, audio_root = read_clips(manifest, root)
    prepared = prepare(
        clips,
        audio_root,
        store,
        TeacherChoice(kind=teacher) if isinstance(teacher, str) else teacher,
        labelling or LabelOptions(),
        jobs=jobs,
        budget=options.budget,
        on_probed=events.on_probe,
    )
    opened = write_plan(Path(store), prepared)
    check_teacher(prepared.teacher, opened.spec)
    shift = _Shift(opened, prepared, options, events)
    shift.work(jobs)
    return _close(Path(store), prepared, shift)


class _Stop(Exception):
    """--on-error fail: a window was quarantined; the message is which."""


class _Shift:
    """The labelling of one run, and what came of it."""

    def __init__(self, store: SoftLabelStore, prepared: Preparation, options: RunOptions, events: RunEvents) -> None:
        self.store, self.options, self.events = store, options, events
        self.tasks = _tasks(store, prepared, options)
        self.teacher = prepared.teacher
        self.statuses: list[ShardStatus] = []
        self.stopped, self.resumable = "", False

    def work(self, jobs: int) -> None:
        """Label what is to be labelled, as far as the machine lets us."""
        windows = sum(clip.windows for task in self.tasks for clip in task.clips)
        self.events.on_plan(windows, len(self.tasks), self.store.spec.window, self.teacher)
        workers = 0 if self.options.backend == "sequential" else joblib.effective_n_jobs(jobs)
        rounds = Rounds(workers=workers, timeout_s=self.options.timeout_s, on_status=self._on_status)
        try:
            rounds.run(self.tasks)
        except _Stop as e:
            self.stopped = str(e)
        except StorageFullError as e:
            self.stopped, self.resumable = str(e), True

    def _on_status(self, status: ShardStatus) -> None:
        self.statuses.append(status)
        self.events.on_shard(status)
        if status.outcome == "refused":
            raise _Stop(f"--on-error fail: {status.message}")


def _tasks(store: SoftLabelStore, prepared: Preparation, options: RunOptions) -> list[ShardTask]:
    """What is planned and not committed, and what is committed with faults that may be gone."""
    missing = store.missing_shards()
    retried = {shard: store.receipt(shard).identity for shard in _retriable(store, set(missing), options)}
    return [
        ShardTask(
            shard=shard,
            clips=tuple(clips),
            spec=store.spec,
            teacher=prepared.choice,
            root=str(prepared.root),
            store=str(store.storage),
            keep_quarantined=options.on_error == "skip",
            replacing=retried.get(shard, ""),
            strict_class=_numerics_class(store) if options.strict else "",
        )
        for shard, clips in store.planned([*missing, *retried]).items()
    ]


def _retriable(store: SoftLabelStore, missing: set[int], options: RunOptions) -> list[int]:
    """Committed shards with a fault that labelling them again may mend.

    A clip that was planned as faulty is not among them: it is planned anew once its file can be used. Nor is one
    that a later plan has in another shard.
    """
    faulty = {
        shard: {e.clip_id for e in receipt.quarantined if e.is_transient or options.retry_quarantined}
        for shard, receipt in store.receipts.items()
        if shard not in missing
    }
    candidates = [shard for shard, clips in faulty.items() if clips]
    if not candidates:
        return []
    standing = store.planned_by_clip()

    def stands(clip: PlannedClip) -> bool:
        last = standing[clip.clip_id]
        return not clip.reason and (last.sha256, last.start, last.end) == (clip.sha256, clip.start, clip.end)

    return [
        shard
        for shard, clips in store.planned(candidates).items()
        if any(clip.clip_id in faulty[shard] and stands(clip) for clip in clips)
    ]


def _numerics_class(store: SoftLabelStore) -> str:
    """The numerics class of the store's first receipt, "" if it has none yet."""
    return next((receipt.numerics_class for receipt in store.receipts.values()), "")


def _close(path: Path, prepared: Preparation, shift: _Shift) -> RunSummary:
    """Re-read the store from disk if anything was done, close it if nothing is missing, and sum up."""
    store = softlabels.open(path) if shift.tasks else shift.store
    index = store.index
    labelled, quarantined = index.count(LABELLED), index.count(QUARANTINED)
    if shift.tasks or not store.is_closed():
        if not store.missing_shards():
            _write_success(store)
        _write_quarantine(store)
        _sweep(store)
    in_manifest = {clip.clip_id for clip in prepared.clips}
    statuses = shift.statuses
    retried = {task.shard for task in shift.tasks if task.replacing}
    done = [
        s
        for s in statuses
        if s.outcome == "committed" or (s.outcome in ("equal", "equivalent") and s.shard not in retried)
    ]
    return RunSummary(
        store=path,
        clips=len(index.clips),
        windows=len(index),
        labelled=labelled,
        quarantined=quarantined,
        missing=len(index) - labelled - quarantined,
        left=sum(clip_id not in in_manifest for clip_id in index.clip_ids),
        new_windows=sum(status.rows for status in done),
        shards_done=len(done),
        shard_bytes=sum(receipt.size for receipt in store.receipts.values()),
        different=tuple(sorted(status.shard for status in statuses if status.outcome == "different")),
        deferred=(*prepared.waiting, *(status.message for status in statuses if status.outcome == "deferred")),
        numerics_classes=len({receipt.numerics_class for receipt in store.receipts.values()}),
        stopped=shift.stopped,
        resumable=shift.resumable,
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
        store.storage.put_if_changed(
            f"_SUCCESS-{number:04d}.json", success_bytes(number, map(store.receipt, sorted(shards)))
        )


def _write_quarantine(store: SoftLabelStore) -> None:
    """`quarantine.csv`, for people and spreadsheets; empty but for its header where nothing is quarantined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip_id", "first_window", "windows", "reason", "detail"])
    for entry in store.index.quarantine:
        writer.writerow([entry.clip_id, entry.first_window, entry.windows, entry.reason, entry.detail])
    store.storage.put_if_changed("quarantine.csv", text.getvalue().encode())


def _sweep(store: SoftLabelStore) -> None:
    """Delete what killed writers left behind a day ago: unfinished files, and shards without a receipt."""
    storage = store.storage
    for folder in ("shards", "receipts", "plan", "joins"):
        keep = set(storage.list(folder))
        if folder == "shards":
            keep = {receipt.file for receipt in store.receipts.values()}
        storage.sweep(folder, keep, older_than_s=SWEEP_AFTER_S)
