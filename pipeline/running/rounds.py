"""Rounds of labelling: whatever happens to workers, every shard ends committed, put off, or in a reported failure.

A pool works on all shards. When it breaks (a worker died, or one hung), the shards that may have been in its
hands are done again one at a time, each in a process of its own. A shard that loses its process twice is cut in
halves until single clips are left; a clip is blamed only if it loses its process alone, twice (by SIGKILL, which
comes from outside, five times), each time right after that same process scored a control window. The blamed clips
are quarantined and the rest of the shard commits.

With an engine the pool is somewhere else, the rest is the same: what it loses is looked at alone on this machine,
which has the audio and the teacher. Only a few shards at a time are: when the engine itself is gone, the rest of the
job is left to a later run instead of being done here.
"""

import dataclasses
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from pipeline.engines.engine import Engine, EngineLost, count_workers, reopen_engine
from pipeline.engines.streaming import Lost
from pipeline.labelling.worker import (
    ShardStatus,
    ShardTask,
    check_worker,
    die_with_parent,
    label_if_missing,
    label_only,
    status_of,
)
from pipeline.running.engine_round import Answers, PoolBroke
from pipeline.running.single_worker import InlineLane, ProcessLane, WorkerLost
from softlabels.errors import EnvironmentTrouble
from softlabels.records.plan_file import PlannedClip

logger = logging.getLogger(__name__)
TRIES = 2
ENGINE_TRIES = 3  # times in a row that an engine may get nothing done
ALONE = 16  # an engine that loses more shards than this, and gets none done, has a fault that is not in them
TRIES_IF_KILLED = 5  # SIGKILL comes from outside: an operator, or a machine out of memory
START_S, WINDOW_S = 600, 10  # the time limit of a shard, far beyond what any teacher needs


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Labels tasks until none is left.

    workers: processes at once; 0 labels right here, without a process.
    timeout_s: time limit of a shard; None is by its number of windows.
    on_status: called with what became of each shard.
    engine: labels in place of processes of this machine.
    """

    workers: int
    timeout_s: float | None
    on_status: Callable[[ShardStatus], None]
    engine: Engine | None = None
    _lane: ProcessLane | InlineLane = field(init=False)

    def __post_init__(self) -> None:
        self._lane = ProcessLane() if self.workers else InlineLane()

    def run(self, tasks: list[ShardTask]) -> None:
        """Label them all.

        Raises: TeacherError, StorageFullError: what would stop every shard. EnvironmentTrouble: the engine is gone.
        """
        todo = {task.shard: task for task in tasks}
        failures = 0
        try:
            while todo:
                before = len(todo)
                try:
                    if self.engine and failures:
                        reopen_engine(self.engine)
                    for shard in self._round(todo):
                        self.on_status(self._settle(todo.pop(shard)))
                    failures = 0
                except EngineLost as e:
                    failures = failures + 1 if len(todo) == before else 1
                    if failures >= ENGINE_TRIES:
                        raise EnvironmentTrouble(
                            f"the engine is gone: {e}; what it has not done is left to a later run, not done here"
                        ) from e
                    logger.warning("the engine is gone: %s; trying it again", e)
        finally:
            self._lane.close()

    def _round(self, todo: dict[int, ShardTask]) -> list[int]:
        """Label what goes well, taking it out of `todo`; returns the shards that need to be looked at alone."""
        before, workers, lost, suspects = len(todo), self.workers, "", []
        try:
            for status in self._statuses(list(todo.values())):
                if isinstance(status, Lost):
                    lost = status.why
                elif status.outcome == "failed":
                    suspects.append(status.shard)
                else:
                    del todo[status.shard]
                    self.on_status(status)
        except (PoolBroke, WorkerLost) as e:
            lost = str(e)
        if lost:
            if self.engine:
                workers = count_workers(self.engine)  # one that is gone lost all it had, and no shard is to blame
            # At most two tasks a worker had been handed out, the first ones that did not come back.
            suspects = list(todo)[: max(1, 2 * workers)]
        if self.engine and len(todo) == before and len(suspects) > ALONE:
            raise EngineLost(f"it got none of {before} shards done: {lost}")
        return suspects

    def _statuses(self, tasks: list[ShardTask]) -> Iterator[ShardStatus | Lost]:
        if self.engine:
            yield from Answers(self.engine, tasks, quiet_s=max(map(self._limit, tasks)))
            return
        workers = min(self.workers, len(tasks))
        if workers <= 1:  # joblib would run a single job in this process
            for task in tasks:
                yield self._lane.call(label_if_missing, task, timeout_s=self._limit(task))
            return
        parallel = joblib.Parallel(
            n_jobs=workers,
            backend="loky",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="2*n_jobs",
            timeout=max(map(self._limit, tasks)),
            initializer=die_with_parent,
            initargs=(os.getpid(),),
        )
        try:
            yield from parallel(joblib.delayed(label_if_missing)(task) for task in tasks)
        except (BrokenProcessPool, TimeoutError, multiprocessing.TimeoutError) as e:
            raise PoolBroke(str(e)) from e

    def _settle(self, task: ShardTask) -> ShardStatus:
        """One shard on its own: committed, or committed without the clips that are to blame, or put off."""
        for _ in range(TRIES):
            done = self._try(label_if_missing, task)
            if isinstance(done, ShardStatus):
                return done
        try:
            blamed = dict(self._find(task))
        except WorkerLost as e:
            return status_of(task, "deferred", message=f"a control window failed too, so no clip is blamed: {e}")
        clips = tuple(_blame(clip, blamed.get(clip.clip_id, "")) for clip in task.clips)
        done = self._try(label_if_missing, dataclasses.replace(task, clips=clips))
        if isinstance(done, ShardStatus):
            return done
        return status_of(task, "deferred", message=f"no single clip is to blame: {done}")

    def _find(self, task: ShardTask) -> Iterator[tuple[str, str]]:
        """The clips that cannot be labelled, by halves: clip_id, and how each loses its worker."""
        if len(task.clips) == 1:
            how = self._is_lost_alone(task)
            if how:
                yield task.clips[0].clip_id, how
        elif isinstance(self._try(label_only, task), str):
            half = len(task.clips) // 2
            for clips in (task.clips[:half], task.clips[half:]):
                yield from self._find(dataclasses.replace(task, clips=clips))

    def _is_lost_alone(self, task: ShardTask) -> str:
        """How this one clip loses a fresh worker every time, "" if it does not. Raises: WorkerLost: on the control."""
        for lost in range(1, TRIES_IF_KILLED + 1):
            self._lane.close()
            self._lane.call(check_worker, task, timeout_s=self._limit(task))
            done = self._try(label_only, task)
            if isinstance(done, ShardStatus):
                return ""
            how = done
            if lost >= TRIES and "SIGKILL" not in how:
                break
        return how

    def _try(self, function: Callable[[ShardTask], ShardStatus], task: ShardTask) -> ShardStatus | str:
        """What became of a task, or how its worker was lost; a teacher that raised counts as lost."""
        try:
            status: ShardStatus = self._lane.call(function, task, timeout_s=self._limit(task))
        except WorkerLost as e:
            return str(e)
        return status.message if status.outcome == "failed" else status

    def _limit(self, task: ShardTask) -> float:
        return START_S + WINDOW_S * task.windows if self.timeout_s is None else self.timeout_s


def _blame(clip: PlannedClip, how: str) -> PlannedClip:
    reason, _, detail = how.partition(": ")
    return dataclasses.replace(clip, reason=reason, detail=detail) if how else clip
