"""Answers: tasks go to an engine, and what became of each comes back in any order."""

import dataclasses
import os
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import joblib

from pipeline.engines.engine import Engine, EngineLost, count_workers
from pipeline.engines.streaming import Lost, first_line
from pipeline.labelling.worker import ShardStatus, ShardTask, label_if_missing
from pipeline.processes import PoolBroke
from softlabels.errors import EnvironmentTrouble

_Text = TypeVar("_Text", str, str | None)
PROCESS = secrets.token_hex(8)  # tells this process from every other
CHECK_S = 5.0  # after so much silence the engine is asked whether it is still there
_one_at_a_time = threading.Lock()  # a worker that got several threads in spite of us: its teacher is not made for that


def label_elsewhere(task: ShardTask, client: str) -> ShardStatus | Exception:
    """What a worker of an engine does. Never raises: whatever is raised all the same is the engine's own."""
    if client == PROCESS:
        return EnvironmentTrouble("the engine runs tasks in this very process, where a crash could not be survived")
    try:
        with _one_at_a_time:
            return label_if_missing(task)
    except Exception as e:
        return e


def _absolute(task: ShardTask) -> ShardTask:
    """The task with full paths, for a worker whose folder is another."""
    choice = task.teacher
    teacher = dataclasses.replace(choice, model=_path(choice.model), labels=_path(choice.labels))
    return dataclasses.replace(task, root=_path(task.root), store=_path(task.store), teacher=teacher)


def _path(text: _Text) -> _Text:
    return os.path.abspath(text) if text and os.path.exists(text) else text


class Answers:
    """One round of tasks on an engine.

    quiet_s: how long nothing may come back.
    """

    def __init__(self, engine: Engine, tasks: list[ShardTask], *, quiet_s: float) -> None:
        self._engine, self._tasks, self._quiet_s = engine, tasks, quiet_s
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._fed = 0

    def __iter__(self) -> Iterator[ShardStatus | Lost]:
        """Feed the tasks and wait.

        Raises: EngineLost; PoolBroke: tasks were handed out, and nothing came back for `quiet_s`; and what a worker
          raised because it would stop every shard.
        """
        threading.Thread(target=self._work, daemon=True).start()  # a broken engine may keep its caller for ever
        try:
            while (answer := self._next()) is not self._stopped:
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            self._stopped.set()

    def _work(self) -> None:
        try:
            parallel = joblib.Parallel(
                n_jobs=count_workers(self._engine),
                backend=self._engine.backend(),
                return_as="generator_unordered",
                batch_size=1,
                pre_dispatch="2*n_jobs",
            )
            for answer in parallel(self._feed()):
                self._arrived.put(answer)
            self._arrived.put(self._stopped)
        except BaseException as e:
            self._arrived.put(EngineLost(first_line(e)))

    def _feed(self) -> Iterator[Any]:
        for task in self._tasks:
            if self._stopped.is_set():
                return
            self._fed += 1
            yield joblib.delayed(label_elsewhere)(_absolute(task), PROCESS)

    def _next(self) -> Any:
        """What arrives next, once the engine has been seen to be there."""
        since = time.monotonic()
        while time.monotonic() - since < self._quiet_s:
            try:
                return self._arrived.get(timeout=min(CHECK_S, self._quiet_s))
            except queue.Empty:
                count_workers(self._engine)
        why = f"nothing came back within {self._quiet_s:g} s"
        raise PoolBroke(why) if self._fed else EngineLost(why)
