"""A lane: one worker process of our own. That it dies or hangs is an answer, not an accident."""

import concurrent.futures
import os
import re
from collections.abc import Callable
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from pipeline.labelling.worker import die_with_parent


class WorkerLost(Exception):
    """The worker died or hung; the message is `<reason>: <detail>` with reason "crashed" or "hung"."""


class ProcessLane:
    """Runs one call after the other in the same fresh process; after a loss, the next call gets a new one."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
        """The function's result, or its exception. Raises: WorkerLost."""
        if self._executor is None:
            self._executor = ProcessPoolExecutor(1, initializer=die_with_parent, initargs=(os.getpid(),))
        try:
            return self._executor.submit(function, *arguments).result(timeout=timeout_s)
        except BrokenProcessPool as e:
            self.close()
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
