"""Processes of our own that can be lost: that one dies or hangs is an answer, not an accident.

Here: one process for one call after the other (a lane), a pool of several for many calls, and waiting for something
that is gone. Not here: what is called, and who is to blame (`planning`, `running`).
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from pipeline.search_path import start_code
from softlabels.errors import EnvironmentTrouble

TRIES = 2  # of a call that loses its process, before it is blamed
TRIES_IF_KILLED = 5  # SIGKILL comes from outside: an operator, or a machine out of memory
PATIENCE_S = 240.0  # for what is gone to come back
LONGEST_PAUSE_S = 30.0
warnings.filterwarnings("ignore", "[0-9]+ tasks which were still being processed")  # joblib's, of a pool we leave early


class WorkerLost(Exception):
    """The worker died or hung; the message is `<reason>: <detail>` with reason "crashed" or "hung"."""


class PoolBroke(Exception):
    """The pool cannot go on; the message says why."""


class NoWorkers(EnvironmentTrouble):
    """No worker can do anything at all, as nothing it is given can be loaded there; no use in trying the next one."""


def own_words(lost: BaseException) -> str:
    """What a worker itself told of a call that it could not even load, and where that was raised; "" if nothing."""
    if not str(lost).startswith("A task has failed to un-serialize") or lost.__cause__ is None:
        return ""
    lines = str(lost.__cause__).strip().strip('"').strip().splitlines()
    place = next((line.strip() for line in reversed(lines) if line.startswith("  File ")), "")
    return f"a worker process cannot load what it has to do: {lines[-1]} ({place})"


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Let new processes not import what lies in the current folder: they start as `python -m`, which else does."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


class ProcessLane:
    """Runs one call after the other in the same fresh process; after a loss, the next call gets a new one."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
        """The function's result, or its exception. Raises: WorkerLost."""
        try:
            with safe_path():
                if self._executor is None:
                    self._executor = ProcessPoolExecutor(1, initializer=exec, initargs=(start_code(),))
                answer = self._executor.submit(function, *arguments)
            return answer.result(timeout=timeout_s)
        except BrokenProcessPool as e:
            self.close()
            if why := own_words(e):
                raise NoWorkers(why) from e
            found = re.search(r"(SIG[A-Z0-9]+|EXIT)\((-?\d+)\)", str(e))
            raise WorkerLost(f"crashed: its worker died{f' of {found[0]}' if found else ''}") from e
        except concurrent.futures.TimeoutError as e:
            self.close()
            raise WorkerLost(f"hung: no answer within {timeout_s:g} s") from e
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


class InlineLane:
    """The same without a process, for `backend="sequential"`: a worker that dies here takes the run with it."""

    def call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
        return function(*arguments)

    def close(self) -> None:
        """Nothing to end."""


class Workers:
    """The processes of a run: a pool for many calls, and a lane for those that are looked at alone.

    count: of the pool; 0 is none, everything is done in this process.
    threads: of this process then, for what is safe in them.
    timeout_s: of a shard, or a file; None leaves it to whoever calls.
    """

    def __init__(self, count: int, *, threads: int = 1, timeout_s: float | None = None) -> None:
        self.count, self.threads, self.timeout_s = count, threads, timeout_s
        self.lane = ProcessLane() if count else InlineLane()
        self._started = 0  # processes of the pool, which joblib keeps for the next calls of the same run

    def close(self) -> None:
        """End the lane; the pool ends by itself."""
        self.lane.close()

    def each(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], *, timeout_s: Callable[[int], float]
    ) -> Iterator[Any]:
        """function(*call) of every call, in any order.

        Args:
          timeout_s: how long a call may take, by its number.
        Raises: PoolBroke, WorkerLost: some calls lost their process; and what a call raises.
        """
        workers = max(self._started, min(self.count, len(calls)))
        if workers <= 1:  # joblib would run a single job in this process
            for number, call in enumerate(calls):
                yield self.lane.call(function, *call, timeout_s=timeout_s(number))
            return
        self._started = workers
        parallel = joblib.Parallel(
            n_jobs=workers,
            backend="loky",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="2*n_jobs",
            timeout=max(map(timeout_s, range(len(calls)))),
            initializer=exec,
            initargs=(start_code(),),
        )
        try:
            with (
                safe_path(),
                contextlib.closing(parallel(joblib.delayed(function)(*call) for call in calls)) as answers,
            ):
                yield from answers
        except (BrokenProcessPool, TimeoutError, multiprocessing.TimeoutError) as e:
            if why := own_words(e):
                raise NoWorkers(why) from e
            raise PoolBroke(str(e) or f"{type(e).__name__}: no answer in time") from e  # a timeout has no text


def look(lane: ProcessLane | InlineLane, function: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
    """The result of a call that every process can do, unless what it looks at hangs, or the system kills it.

    Raises: WorkerLost; NoWorkers: one process after the other died of it.
    """
    tries = 0
    while True:
        try:
            return lane.call(function, *arguments, timeout_s=timeout_s)
        except WorkerLost as e:
            tries += 1
            if not str(e).startswith("crashed") or "SIGKILL" in str(e):
                raise
            if tries == TRIES:
                raise NoWorkers(f"no worker process comes up: {e}") from e


def lose_alone(lane: ProcessLane | InlineLane, attempt: Callable[[], str], control: Callable[[], None]) -> str:
    """How something loses its process every time; "" if it does not.

    Args:
      attempt: does it once; says how the process was lost, "" if it was not.
      control: proves, in the process that is to be used next, that the machine is well.
    Raises: what `control` raises, WorkerLost above all.
    """
    how = ""
    for lost in range(1, TRIES_IF_KILLED + 1):
        lane.close()
        control()
        how = attempt()
        if not how or (lost >= TRIES and "SIGKILL" not in how):
            break
    return how


def within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result or exception; a mount that hangs keeps the thread that asks it, not the run.

    Raises: EnvironmentTrouble: no answer within so many seconds.
    """
    answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def work() -> None:
        try:
            answer.set_result(function(*arguments))
        except BaseException as e:
            answer.set_exception(e)

    threading.Thread(target=work, daemon=True).start()
    concurrent.futures.wait([answer], timeout=seconds)
    if not answer.done():
        where = ", ".join(f"'{each}'" for each in arguments if isinstance(each, str | Path))
        raise EnvironmentTrouble(f"{where}: no answer within {seconds:.4g} s; a mount that hangs?")
    return answer.result()


def wait_until(trouble: Callable[[], str]) -> str:
    """Wait, in growing pauses, until there is no trouble any more; what it is, if that takes longer than PATIENCE_S."""
    deadline, pause = time.monotonic() + PATIENCE_S, 1.0
    while (why := trouble()) and time.monotonic() + pause <= deadline:
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    return why
