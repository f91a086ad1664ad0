"""Engines: Dask, Ray or Spark, reached through joblib's backends, start the workers that label shards elsewhere.

Nothing is scheduled here. An engine says how many workers it has and gives a joblib backend; what is fed to it and
what comes back is in `answers.py`. Each engine tries a task whose worker died again by itself, four times in all.
"""

import concurrent.futures
import contextlib
import importlib.util
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol, TypeVar

from joblib.parallel import ParallelBackendBase

from softlabels.errors import EnvironmentTrouble

logger = logging.getLogger(__name__)
BackendName = Literal["loky", "dask", "ray", "spark", "sequential"]
CONNECT_S = 30  # for one answer from a scheduler
WORKERS_S = 120  # for a cluster without workers to get one
REOPEN_S = 10  # before an engine that went away is tried again
TRIES = 4  # of a task whose worker died; Dask's and Spark's own default
_Result = TypeVar("_Result")


class EngineLost(Exception):
    """The engine has gone away or has no worker left, so no shard is to blame; the message says why."""


class Engine(Protocol):
    """What labelling needs of Dask, Ray and Spark. Every call but `open` may block for ever, see `_within`."""

    def open(self) -> None:
        """Connect, or start what is local."""

    def count(self) -> int:
        """Tasks that run at once now. Raises: EnvironmentTrouble: the workers are no good for us."""

    def backend(self) -> ParallelBackendBase:
        """A joblib backend for one round."""

    def close(self) -> None:
        """Disconnect, and end what `open` started."""


@contextlib.contextmanager
def connected(name: BackendName, address: str | None, jobs: int) -> Iterator[Engine | None]:
    """The engine, with a worker at least, for as long as the block lasts; None for "loky" and "sequential".

    Args:
      address: "tcp://host:port" of a Dask scheduler; "auto" or "host:port" of a Ray cluster, None starts one here;
        a Spark master, None is "local[N,4]".
      jobs: tasks at once at most; -1 is as many as the engine has workers.
    Raises: ValueError: address and backend do not fit, or the extra is not installed. EnvironmentTrouble: nobody
      answers, or the workers are no good for us.
    """
    engine = _choose(name, address, jobs)
    try:
        if engine is not None:
            _open_with_workers(engine, f"--backend {name}" + (f" at {address}" if address else ""))
        yield engine
    finally:
        disconnect(engine)


def _open_with_workers(engine: Engine, name: str) -> None:
    try:
        open_engine(engine)
        count_workers(engine)
    except EngineLost as e:
        raise EnvironmentTrouble(f"{name}: cannot use it: {e}") from e


def _choose(name: BackendName, address: str | None, jobs: int) -> Engine | None:
    if name in ("loky", "sequential"):
        if address:
            raise ValueError(f"--address {address}: --backend {name} takes none, it works on this machine")
        return None
    if name == "dask" and not address:
        raise ValueError("--backend dask: expected --address tcp://host:port, which `dask scheduler` prints, got none")
    package, engine = ENGINES[name]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"--backend {name} needs more packages: `pip install softlabels[{name}]`")
    return engine(address, jobs)


def open_engine(engine: Engine) -> None:
    """Connect. Raises: EngineLost."""
    try:
        engine.open()  # in this very thread: Linux kills the processes of a local Ray when the thread they came of ends
    except (Exception, SystemExit) as e:  # which Ray raises where nobody answers
        raise EngineLost(_first_line(e)) from e


def reopen_engine(engine: Engine) -> None:
    """Connect again, after a while. Raises: EngineLost."""
    disconnect(engine)
    time.sleep(REOPEN_S)
    open_engine(engine)


def disconnect(engine: Engine | None) -> None:
    """Leave the engine; one that is gone already cannot keep us."""
    try:
        if engine is not None:
            _within(CONNECT_S, engine.close)
    except Exception as e:
        logger.debug("%s: %s", type(engine).__name__, e)


def count_workers(engine: Engine) -> int:
    """How many tasks run at once; a cluster without workers is given time to get one.

    Raises: EngineLost: it got none, or does not answer. EnvironmentTrouble: its workers are no good for us.
    """
    deadline = time.monotonic() + WORKERS_S
    while time.monotonic() < deadline:
        try:
            count = _within(CONNECT_S, engine.count)
        except EnvironmentTrouble:
            raise
        except Exception as e:
            raise EngineLost(f"it does not answer: {_first_line(e)}") from e
        if count:
            return count
        time.sleep(1)
    raise EngineLost(f"it has had no worker for {WORKERS_S} s")


def _within(seconds: float, function: Callable[[], _Result]) -> _Result:
    """The function's result or exception, or TimeoutError; a client of a broken engine may block for ever."""
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((function(), None))
        except BaseException as e:
            answers.put((None, e))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error if isinstance(error, Exception) else EngineLost(_first_line(error))
    return result


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Lost:
    """What comes back for a task that the engine gave up; which one it was, the store will tell."""

    why: str


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself, and a run stopped by a scheduler would end without a word."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


class Streaming:
    """Makes a joblib backend hand on each result, or loss, as it comes. To be put before the backend's class."""

    supports_retrieve_callback = True
    supports_return_generator = True

    def effective_n_jobs(self, n_jobs: int) -> int:
        """At least two: with one, joblib would run the tasks in this very process."""
        return max(2, super().effective_n_jobs(n_jobs))

    def retrieve_result_callback(self, out: Any) -> list[Any]:
        """Our tasks never raise, so what is not the list of a task's results is the engine's own complaint."""
        return out if isinstance(out, list) else [Lost(_first_line(getattr(out, "exc", out)))]


class DaskEngine:
    """A Dask cluster that runs already; its workers need one thread each, and all of them are used."""

    def __init__(self, address: str | None, _jobs: int) -> None:
        self._address = address

    def open(self) -> None:
        import distributed

        self._client = distributed.Client(self._address, timeout=CONNECT_S, set_as_default=False)

    def count(self) -> int:
        threads = self._client.nthreads()
        several = [address for address, count in threads.items() if count != 1]
        if several:
            raise EnvironmentTrouble(
                f"--backend dask: expected workers of one thread, because a teacher is not made for several, got "
                f"{len(several)} with more, the first {several[0]}; start them with `dask worker --nthreads 1 "
                "--nworkers N`"
            )
        return len(threads)

    def backend(self) -> ParallelBackendBase:
        from joblib._dask import DaskDistributedBackend  # loads Dask

        class StreamingDask(Streaming, DaskDistributedBackend):
            def submit(self, func: Any, callback: Any = None) -> Any:
                """joblib 1.6 never calls back for a task that Dask gave up, and so would wait for ever."""
                if self.client.status != "running":
                    return concurrent.futures.Future()  # nobody waits for it: the round is over
                job = super().submit(func, callback)
                job.add_done_callback(lambda done: callback(done.exception()) if done.exception() else None)
                return job

        return StreamingDask(client=self._client)

    def close(self) -> None:
        self._client.close(timeout=CONNECT_S)


class RayEngine:
    """A Ray cluster that runs already, or one on this machine."""

    def __init__(self, address: str | None, jobs: int) -> None:
        self._address, self._jobs = address, jobs

    def open(self) -> None:
        import ray

        self._ours = not ray.is_initialized()
        if self._ours:
            with _signals_kept():
                self._start(ray)

    def _start(self, ray: ModuleType) -> None:
        quiet = {"log_to_driver": False, "logging_level": "error"}
        if self._address:
            ray.init(self._address, **quiet)
        else:
            cpus = max(2, self._jobs if self._jobs > 0 else os.cpu_count() or 1)
            # Nothing big goes through Ray's memory: tasks and answers are small, labels go to the store.
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=100_000_000, **quiet)

    def count(self) -> int:
        import ray

        cpus = int(ray.cluster_resources().get("CPU", 0))
        if cpus == 1:
            raise EnvironmentTrouble(
                "--backend ray: the cluster has one CPU, with which joblib would run the tasks in this very process; "
                "add another, or use --backend loky"
            )
        return min(cpus, max(2, self._jobs)) if self._jobs > 0 else cpus

    def backend(self) -> ParallelBackendBase:
        import ray
        from ray.util.joblib.ray_backend import RayBackend

        class StreamingRay(Streaming, RayBackend):
            def terminate(self) -> None:
                """Kill: an actor that is asked to end waits for its tasks, and is then started again."""
                pool, self._pool = self._pool, None
                for actor, _ in pool._actor_pool if pool else []:
                    ray.kill(actor)

        # A CPU each, or Ray would put all of them on one node; a dead one is started again and its tasks are tried
        # again, or the pool would go on handing tasks to it.
        actor = {"num_cpus": 1, "max_restarts": -1, "max_task_retries": TRIES - 1}
        return StreamingRay(nesting_level=0, ray_remote_args=actor)

    def close(self) -> None:
        import ray

        if self._ours:
            ray.shutdown()


class SparkEngine:
    """A Spark master, or Spark in processes of this machine."""

    def __init__(self, address: str | None, jobs: int) -> None:
        cores = jobs if jobs > 0 else os.cpu_count() or 1
        self._address, self._jobs = address or f"local[{cores},{TRIES}]", jobs

    def open(self) -> None:
        from pyspark.sql import SparkSession

        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else it takes whatever `python3` is
        self._ours = SparkSession.getActiveSession() is None
        builder = SparkSession.builder.master(self._address).appName("softlabels")
        self._session = builder.config("spark.ui.enabled", "false").getOrCreate()
        self._session.sparkContext.setLogLevel("FATAL")  # what goes wrong comes back as an exception

    def count(self) -> int:
        from joblibspark.backend import SparkDistributedBackend

        slots = SparkDistributedBackend().effective_n_jobs(-1)
        return min(slots, self._jobs) if self._jobs > 0 else slots

    def backend(self) -> ParallelBackendBase:
        from joblibspark.backend import SparkDistributedBackend

        class StreamingSpark(Streaming, SparkDistributedBackend):
            def submit(self, func: Any, callback: Any = None) -> Any:
                return self.apply_async(func, callback)  # what joblib calls it with a warning

        return StreamingSpark()

    def close(self) -> None:
        if self._ours:
            self._session.stop()


ENGINES = {"dask": ("distributed", DaskEngine), "ray": ("ray", RayEngine), "spark": ("joblibspark", SparkEngine)}
