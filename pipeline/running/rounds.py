"""Rounds of labelling: whatever happens to workers, every shard ends committed, put off, or in a reported failure.

A pool works on all shards. When it breaks (a worker died, or one hung), the shards that may have been in its
hands are done again one at a time, each in a process of its own. A shard that loses its process twice is cut in
halves until single clips are left; a clip is blamed only if it loses its process alone, twice (by SIGKILL, which
comes from outside, five times), each time right after that same process scored a control window. The blamed clips
are quarantined and the rest of the shard commits.

With an engine the pool is somewhere else, the rest is the same: what it loses is looked at alone on this machine,
which has the audio and the teacher. Only a few shards at a time are: when the engine itself is gone, the rest of the
job is left to a later run instead of being done here.

Where nothing at all goes well, no shard is to blame, and trying them all would take hours: the run ends after three.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from pipeline.engines.engine import Engine, EngineLost, count_workers, reopen_engine
from pipeline.engines.streaming import Lost
from pipeline.labelling.worker import (
    ShardStatus,
    ShardTask,
    check_worker,
    label_if_missing,
    label_only,
    out_of_reach,
    status_of,
)
from pipeline.processes import TRIES, PoolBroke, WorkerLost, Workers, look, lose_alone, wait_until
from pipeline.running.engine_round import Answers
from softlabels.errors import EnvironmentTrouble, TeacherError
from softlabels.records.plan_file import PlannedClip

logger = logging.getLogger(__name__)
ENGINE_TRIES = 3  # times in a row that an engine may get nothing done
ALONE = 16  # an engine that loses more shards than this, and gets none done, has a fault that is not in them
START_S, WINDOW_S = 600, 10  # the time limit of a shard, far beyond what any teacher needs
PUT_OFF = 3  # shards in a row, before somebody looks whether audio root and store are there at all
LOOK_S = 60.0  # for that look: a mount that hangs gives no answer
FEW = 3  # shards that lose their worker on control windows, too; or of which no clip can be scored


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Labels tasks until none is left.

    workers: the processes; without any, labels right here. The time limit of a shard, if they have none, is by its
      number of windows.
    on_status: called with what became of each shard.
    engine: labels in place of processes of this machine.
    proven: whether the teacher has labelled anything, in this run or before it.
    """

    workers: Workers
    on_status: Callable[[ShardStatus], None]
    engine: Engine | None = None
    proven: bool = False
    _put_off: int = field(init=False, default=0)  # shards in a row
    _unwell: int = field(init=False, default=0)  # shards in a row of which the control windows lost their worker

    def run(self, tasks: list[ShardTask]) -> None:
        """Label them all.

        Raises: TeacherError, StorageFullError: what would stop every shard. EnvironmentTrouble: the engine is gone, or
          audio root or store are, and do not come back; or no worker can score anything.
        """
        todo = {task.shard: task for task in tasks}
        failures = 0
        while todo:
            before = len(todo)
            try:
                if self.engine and failures:
                    reopen_engine(self.engine)
                suspects = self._round(todo)
                self._check_teacher([todo[shard] for shard in suspects])
                for shard in suspects:
                    task = todo.pop(shard)
                    if self._is_cut_off(task, self._settle(task)):
                        self._wait(task)
                failures = 0
            except EngineLost as e:
                failures = failures + 1 if len(todo) == before else 1
                if failures >= ENGINE_TRIES:
                    raise EnvironmentTrouble(
                        f"the engine is gone: {e}; what it has not done is left to a later run, not done here"
                    ) from e
                logger.warning("the engine is gone: %s; trying it again", e)

    def _round(self, todo: dict[int, ShardTask]) -> list[int]:
        """Label what goes well, taking it out of `todo`; returns the shards that need to be looked at alone."""
        before, workers, lost, suspects, waiting = len(todo), self.workers.count, "", [], None
        try:
            with contextlib.closing(self._statuses(list(todo.values()))) as statuses:
                for status in statuses:
                    if isinstance(status, Lost):
                        lost = status.why
                    elif status.outcome == "failed":
                        suspects.append(status.shard)
                        if len(suspects) == FEW and not self.proven:
                            break
                    elif self._is_cut_off(task := todo.pop(status.shard), status):
                        waiting = task
                        break  # or everything else would be put off too, while somebody waits
            if waiting:
                self._wait(waiting)
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

    def _statuses(self, tasks: list[ShardTask]) -> Generator[ShardStatus | Lost, None, None]:
        if self.engine:
            yield from Answers(self.engine, tasks, quiet_s=max(map(self._limit, tasks)))
        else:
            calls = [(task,) for task in tasks]
            yield from self.workers.each(label_if_missing, calls, timeout_s=lambda number: self._limit(tasks[number]))

    def _is_cut_off(self, task: ShardTask, status: ShardStatus) -> bool:
        """Report a shard; whether the next ones had better wait: several in a row were put off, and it shows why."""
        self.on_status(status)
        self.proven = self.proven or status.rows > 0
        self._put_off = self._put_off + 1 if status.outcome == "deferred" else 0
        return self._put_off >= PUT_OFF and self._out_of_reach(task) != ""

    def _wait(self, task: ShardTask) -> None:
        """Wait for the audio root or the store to come back. Raises: EnvironmentTrouble: it does not."""
        logger.warning("%d shards in a row were put off; waiting for '%s', '%s'", self._put_off, task.root, task.store)
        if why := wait_until(lambda: self._out_of_reach(task)):
            raise EnvironmentTrouble(f"{self._put_off} shards in a row were put off: {why}; a later run does the rest")
        self._put_off = 0

    def _out_of_reach(self, task: ShardTask) -> str:
        """Why nothing can be labelled now, "" if it can; a mount that hangs must not keep the one who asks."""
        try:
            why: str = look(self.workers.lane, out_of_reach, task, timeout_s=LOOK_S)
        except WorkerLost as e:
            return f"nobody can look at '{task.root}' and '{task.store}': {e}"
        return why

    def _settle(self, task: ShardTask) -> ShardStatus:
        """One shard on its own: committed, or committed without the clips that are to blame, or put off."""
        if why := self._out_of_reach(task):
            return status_of(task, "deferred", message=why)
        for _ in range(0 if self._unwell else TRIES):
            done = self._try(label_if_missing, task)
            if isinstance(done, ShardStatus):
                return done
        blameless = "a control window failed too, so no clip is blamed"
        if how := self._lost_on_control(task):
            self._unwell += 1
            if self._unwell >= FEW:
                raise EnvironmentTrouble(f"{FEW} shards in a row lost their worker; {blameless}: {how}")
            return status_of(task, "deferred", message=f"{blameless}: {how}")
        self._unwell = 0
        try:
            blamed = dict(self._find(task))
        except WorkerLost as e:
            return status_of(task, "deferred", message=f"{blameless}: {e}")
        clips = tuple(_blame(clip, blamed.get(clip.clip_id, "")) for clip in task.clips)
        done = self._try(label_if_missing, dataclasses.replace(task, clips=clips))
        if isinstance(done, ShardStatus):
            return done
        return status_of(task, "deferred", message=f"no single clip is to blame: {done}")

    def _lost_on_control(self, task: ShardTask) -> str:
        """How even control windows lose their worker, "" if they do not. Raises: TeacherError: the teacher raises."""
        try:
            self.workers.lane.call(check_worker, task, timeout_s=self._limit(task))
        except WorkerLost as e:
            return str(e)
        return ""

    def _check_teacher(self, tasks: list[ShardTask]) -> None:
        """Try a few clips alone, of a few shards that failed, where nothing has been labelled yet.

        Raises: TeacherError: each of them, three at least, makes the teacher raise, or loses its worker.
          EnvironmentTrouble: the system kills it.
        """
        usable = [[clip for clip in task.clips if not clip.reason] for task in tasks[:FEW]]
        pairs = [
            (task, clips[n]) for n in range(FEW) for task, clips in zip(tasks, usable, strict=False) if n < len(clips)
        ]
        if self.proven or len(pairs) < FEW or self._lost_on_control(tasks[0]):
            return  # of control windows that are lost, too, somebody else keeps count
        for task, clip in pairs:
            last = self._attempt(label_only, dataclasses.replace(task, clips=(clip,)))
            if last.outcome != "failed" or last.message.startswith("hung"):
                return
        why = f"no clip can be labelled, {len(pairs)} were tried alone: {last.message}{last.place}"
        raise (EnvironmentTrouble if "SIGKILL" in why else TeacherError)(f"teacher {tasks[0].teacher.kind!r}: {why}")

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

        def attempt() -> str:
            done = self._try(label_only, task)
            return done if isinstance(done, str) else ""

        lane = self.workers.lane
        return lose_alone(lane, attempt, lambda: lane.call(check_worker, task, timeout_s=self._limit(task)))

    def _try(self, function: Callable[[ShardTask], ShardStatus], task: ShardTask) -> ShardStatus | str:
        """What became of a task, or how its worker was lost; a teacher that raised counts as lost."""
        status = self._attempt(function, task)
        return status.message if status.outcome == "failed" else status

    def _attempt(self, function: Callable[[ShardTask], ShardStatus], task: ShardTask) -> ShardStatus:
        """What became of a task; "failed" where its teacher raised, or its worker was lost."""
        try:
            status: ShardStatus = self.workers.lane.call(function, task, timeout_s=self._limit(task))
        except WorkerLost as e:
            return status_of(task, "failed", message=str(e))
        return status

    def _limit(self, task: ShardTask) -> float:
        return self.workers.timeout_s or START_S + WINDOW_S * task.windows


def _blame(clip: PlannedClip, how: str) -> PlannedClip:
    reason, _, detail = how.partition(": ")
    return dataclasses.replace(clip, reason=reason, detail=detail) if how else clip
