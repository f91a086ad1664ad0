"""run(): the whole job. Manifest and teacher in, a finished store out; only what is missing is done."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import joblib
import pyarrow.compute as pc

import softlabels
from pipeline.engines.engine import BackendName, Engine, connected
from pipeline.labelling.claims import Claims
from pipeline.labelling.worker import ShardStatus, ShardTask, check_teacher, status_of
from pipeline.options import check_numbers, option
from pipeline.planning.prepare import LabelOptions, Preparation, prepare, read_clips, write_plan
from pipeline.processes import Workers
from pipeline.running.closing import RunSummary, sum_up, write_endings
from pipeline.running.fitting import fit_if_new
from pipeline.running.job_array import ArrayTask, SharedWork, wait_for_plan
from pipeline.running.rounds import Rounds
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.audio.decode import DEFAULT_BUDGET, AudioBudget
from softlabels.corpus.manifest import Clip
from softlabels.errors import EnvironmentTrouble, StorageFullError
from softlabels.os_errors import is_store_trouble, told
from softlabels.records.plan_file import same_clip
from softlabels.storage.location import absolute
from softlabels.storage.opening import open_storage
from softlabels.store.own_runs import OwnRun, remember_run
from softlabels.store.reader import StoreReader
from softlabels.windows import WindowSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the user may choose that never changes a byte.

    backend: a crash of "sequential", which works in this process, cannot be survived.
    address: see `pipeline.engines.engine.connected`.
    on_error: "fail" stops before a shard with a quarantined window is committed.
    budget: how much an audio file may ask for; one that asks for more is quarantined.
    """

    jobs: int = option(-1, "worker processes, default one a core", metavar="N")
    on_error: Literal["skip", "fail"] = option("skip", "quarantine and go on, or stop")
    retry_quarantined: bool = option(False, "try permanent faults again, not only transient")
    probe_again: bool = option(False, "read every audio file again, also where size and time are as they were")
    strict: bool = option(False, "refuse a machine that rounds differently from the store's")
    timeout_s: float | None = option(None, "of a shard, default 600 and 10 a window", metavar="SECONDS")
    backend: BackendName = option("loky", "processes of this machine (default), a cluster's, or all in this one")
    address: str | None = option(
        None, "of the cluster: dask tcp://HOST:PORT, ray auto or HOST:PORT, spark a master; default local"
    )
    task: ArrayTask | None = option(
        None, "one of n runs that share the work, i from 0: a SLURM array on one store", metavar="i/n"
    )
    budget: AudioBudget = DEFAULT_BUDGET

    def __post_init__(self) -> None:
        check_numbers({"jobs": self.jobs, "timeout_s": self.timeout_s})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvents:
    """Calls by which a caller shows progress; each may be left out."""

    on_probe: Callable[[int, int], None] = lambda files, total: None
    on_fit: Callable[[int, int | None], None] = lambda windows, components: None
    on_resume: Callable[[int, int], None] = lambda there, planned: None  # windows
    on_plan: Callable[[int, int, WindowSpec, Teacher], None] = lambda windows, shards, window, teacher: None
    on_shard: Callable[[ShardStatus], None] = lambda status: None


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
      store: the directory, or s3://, gs:// or az://bucket/prefix; made where there is none, extended where the
        manifest has grown.
      teacher: "birdnet", "module:factory", or a `TeacherChoice`.
      jobs: worker processes; -1 is one a core.
      root: what the manifest's paths are relative to, a folder or a bucket; None is the manifest's folder.
      labelling: what changes bytes; fixed once the store is made.
      options: what does not; its `jobs` gives way to the argument.
      events: calls that show progress.
    Raises: ManifestError, TeacherError, StoreError, EnvironmentTrouble: before anything is labelled, with what to do.
    Example:
      >>> options = pipeline.RunOptions(backend="sequential")
      >>> pipeline.run("data_manifest.csv", "new", teacher="standin:teacher", options=options).labelled
      14
    """
    check_numbers({"jobs": jobs})
    events, options = events or RunEvents(), options or RunOptions()
    clips, audio_root = read_clips(manifest, root)
    with _trouble_named(store):
        with (
            contextlib.closing(_workers(options, jobs)) as workers,
            _claiming(store, options) as claims,
            connected(options.backend, options.address, jobs) as engine,
        ):
            prepared = prepare(
                clips,
                audio_root,
                store,
                TeacherChoice(kind=teacher) if isinstance(teacher, str) else teacher,
                labelling or LabelOptions(),
                jobs=jobs,
                workers=workers,
                budget=options.budget,
                on_probed=events.on_probe,
                probe_again=options.probe_again,
                probe=claims is None or wait_for_plan(claims, {clip.clip_id for clip in clips}),
            )
            prepared = fit_if_new(prepared, workers, events.on_fit)
            opened = write_plan(store, prepared)
            check_teacher(prepared.teacher, opened.spec)
            _remember(opened, prepared, manifest)
            shift = _Shift(opened, prepared, options, events)
            shift.work(workers, engine, claims)
        return _summary(_closed(shift), prepared, shift)


def _remember(store: StoreReader, prepared: Preparation, manifest: str | Path | list[Clip]) -> None:
    """Where audio, teacher and manifest were, for whoever scores the store again."""
    if not prepared.places.listed:  # nothing is below that root
        return
    own = OwnRun(
        audio_root=absolute(prepared.root),
        teacher=dataclasses.asdict(prepared.choice),
        manifest="" if isinstance(manifest, list) else absolute(Path(manifest)),
    )
    remember_run(store.storage, store.spec.fingerprint(), own)


@contextlib.contextmanager
def _trouble_named(store: str | Path) -> Iterator[None]:
    """A machine in trouble stops a run so that the next one goes on. Raises: EnvironmentTrouble."""
    try:
        yield
    except OSError as e:
        if not is_store_trouble(e):
            raise
        raise EnvironmentTrouble(
            f"store '{store}': {told(e)}; when it can be reached, run the same command again"
        ) from e


def _claiming(store: str | Path, options: RunOptions) -> contextlib.AbstractContextManager[Claims | None]:
    """The claims of one task of a job array; None for a run that shares the work with nobody."""
    if options.task is None:
        return contextlib.nullcontext()
    if options.backend not in ("loky", "sequential"):
        raise ValueError(f"--task: each task works on its own machine, got --backend {options.backend}: leave it out")
    storage = open_storage(store)
    storage.check()
    return Claims(storage)


class _Stop(Exception):
    """--on-error fail: a window was quarantined; the message is which."""


class _Shift:
    """The labelling of one run, and what came of it."""

    def __init__(self, store: StoreReader, prepared: Preparation, options: RunOptions, events: RunEvents) -> None:
        self.store, self.options, self.events = store, options, events
        self.tasks = _tasks(store, prepared, options)
        self.teacher = prepared.teacher
        self.statuses: list[ShardStatus] = []
        self.stopped, self.resumable = "", False
        self._shared: SharedWork | None = None

    def work(self, workers: Workers, engine: Engine | None = None, claims: Claims | None = None) -> None:
        """Label what is to be labelled, as far as the machine lets us."""
        windows = sum(task.windows for task in self.tasks)
        planned = sum(pc.sum(plan["windows"]).as_py() for plan in self.store.plans)
        self.events.on_resume(planned - windows, planned)
        self.events.on_plan(windows, len(self.tasks), self.store.spec.window, self.teacher)
        proven = any(receipt.rows for receipt in self.store.receipts.values())
        rounds = Rounds(workers=workers, on_status=self._on_status, engine=engine, proven=proven)
        try:
            if claims is None or self.options.task is None:
                rounds.run(self.tasks)
            else:
                self._share(rounds, claims, self.options.task)
        except _Stop as e:
            self.stopped = str(e)
        except (StorageFullError, EnvironmentTrouble) as e:
            self.stopped, self.resumable = str(e), True

    def _share(self, rounds: Rounds, claims: Claims, task: ArrayTask) -> None:
        """Work through the own slice, then through what nobody else is doing."""
        planned = sorted({shard for plan in self.store.plans for shard in plan["shard"].unique().to_pylist()})
        self._shared = SharedWork(claims, task, self.tasks, planned, self._on_elsewhere)
        while tasks := self._shared.next_tasks():
            rounds.run(tasks)

    def _on_elsewhere(self, task: ShardTask) -> None:
        self.events.on_shard(status_of(task, "claimed"))

    def _on_status(self, status: ShardStatus) -> None:
        if self._shared is not None:
            self._shared.settle(status)
        if status.outcome == "claimed":
            return
        self.statuses.append(status)
        self.events.on_shard(status)
        if status.outcome == "refused":
            raise _Stop(
                f"--on-error fail: {status.message}; mend '{status.file}', or take its clip out of the manifest; "
                "--on-error skip goes on without it"
            )


def _workers(options: RunOptions, jobs: int) -> Workers:
    count = 0 if options.backend == "sequential" else joblib.effective_n_jobs(jobs)
    return Workers(count, threads=jobs, timeout_s=options.timeout_s)


def _tasks(store: StoreReader, prepared: Preparation, options: RunOptions) -> list[ShardTask]:
    """What is planned and not committed, and what is committed with faults that may be gone."""
    missing = store.missing_shards()
    first_class = next((receipt.numerics_class for receipt in store.receipts.values()), "")
    retried = {shard: store.receipt(shard).identity for shard in _retriable(store, set(missing), options)}
    return [
        ShardTask(
            shard=shard,
            clips=prepared.places.now(clips),
            spec=store.spec,
            teacher=prepared.choice,
            root=str(prepared.root),
            store=str(store.storage),
            keep_quarantined=options.on_error == "skip",
            replacing=retried.get(shard, ""),
            strict_class=first_class if options.strict else "",
            restoring=shard in store.receipts and shard not in retried,
            plan=store.plan_digest(shard),
            notes={clip.clip_id: prepared.notes[clip.path] for clip in clips if clip.path in prepared.notes},
        )
        for shard, clips in store.planned([*missing, *retried]).items()
    ]


def _retriable(store: StoreReader, missing: set[int], options: RunOptions) -> list[int]:
    """Committed shards with a fault that labelling them again may mend.

    A clip that was planned as faulty is not among them: it is planned again once its file can be used. Nor is one
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
    last_planned = store.planned_by_clip()
    planned = store.planned(candidates)
    usable = {s: [clip for clip in planned[s] if clip.clip_id in faulty[s] and not clip.reason] for s in planned}
    return [s for s in planned if any(same_clip(clip, last_planned[clip.clip_id]) for clip in usable[s])]


def _closed(shift: _Shift) -> StoreReader:
    """The store after the work, with its endings if it is finished; the last task of an array clears its claims."""
    store = softlabels.open(str(shift.store.storage)) if shift.tasks else shift.store
    if shift.tasks or shift.options.task or not store.is_closed():
        write_endings(store)
    return store


def _summary(store: StoreReader, prepared: Preparation, shift: _Shift) -> RunSummary:
    in_manifest, statuses = {clip.clip_id for clip in prepared.clips}, shift.statuses
    retried = {task.shard for task in shift.tasks if task.replacing}
    made = [status for status in statuses if status.outcome in ("committed", "equal", "equivalent")]
    done = [status for status in made if status.outcome == "committed" or status.shard not in retried]
    return dataclasses.replace(
        sum_up(store),
        left=sum(clip_id not in in_manifest for clip_id in store.census.clips["clip_id"].to_pylist()),
        new_windows=sum(status.rows for status in done),
        shards_done=len(done),
        notes={clip_id: note for status in made for clip_id, note in status.notes.items()},
        different=tuple(sorted(status.shard for status in statuses if status.outcome == "different")),
        deferred=(*prepared.waiting, *(status.message for status in statuses if status.outcome == "deferred")),
        stopped=shift.stopped,
        resumable=shift.resumable,
    )
