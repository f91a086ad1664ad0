"""Engines: Dask, Ray or Spark, reached through joblib's backends, start the workers that label shards elsewhere.

Nothing is scheduled here. An engine says how many workers it has and gives a joblib backend; what is fed to it and
what comes back is in `engine_round.py`. Each engine tries a task whose worker died again by itself, four times in all.
"""

import concurrent.futures
import contextlib
import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, TypeVar

from joblib.parallel import ParallelBackendBase

from pipeline.engines.streaming import CONNECT_S, first_line
from softlabels.errors import EnvironmentTrouble

logger = logging.getLogger(__name__)
BackendName = Literal["loky", "dask", "ray", "spark", "sequential"]
WORKERS_S = 120  # for a cluster without workers to get one
REOPEN_S = 10  # before an engine that went away is tried again
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
    if engine is None:
        yield None
        return
    try:
        try:
            open_engine(engine)
            count_workers(engine)
        except EngineLost as e:
            where = f" at {address}" if address else ""
            raise EnvironmentTrouble(f"--backend {name}{where}: cannot use it: {e}") from e
        yield engine
    finally:
        disconnect(engine)


def _choose(name: BackendName, address: str | None, jobs: int) -> Engine | None:
    if name in ("loky", "sequential"):
        if address:
            raise ValueError(f"--address {address}: --backend {name} takes none, it works on this machine")
        return None
    if name == "dask" and not address:
        raise ValueError("--backend dask: expected --address tcp://host:port, which `dask scheduler` prints, got none")
    package, load = ENGINES[name]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"--backend {name} needs more packages: `pip install softlabels[{name}]`")
    return load(address, jobs)


def _dask(address: str | None, jobs: int) -> Engine:
    from pipeline.engines.dask import DaskEngine

    return DaskEngine(address, jobs)


def _ray(address: str | None, jobs: int) -> Engine:
    from pipeline.engines.ray import RayEngine

    return RayEngine(address, jobs)


def _spark(address: str | None, jobs: int) -> Engine:
    from pipeline.engines.spark import SparkEngine

    return SparkEngine(address, jobs)


ENGINES = {"dask": ("distributed", _dask), "ray": ("ray", _ray), "spark": ("joblibspark", _spark)}


def open_engine(engine: Engine) -> None:
    """Connect. Raises: EngineLost."""
    try:
        engine.open()  # in this very thread: Linux kills the processes of a local Ray when the thread they came of ends
    except (Exception, SystemExit) as e:  # which Ray raises where nobody answers
        raise EngineLost(first_line(e)) from e


def reopen_engine(engine: Engine) -> None:
    """Connect again, after a while. Raises: EngineLost."""
    disconnect(engine)
    time.sleep(REOPEN_S)
    open_engine(engine)


def disconnect(engine: Engine) -> None:
    """Leave the engine; one that is gone already cannot keep us."""
    try:
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
            raise EngineLost(f"it does not answer: {first_line(e)}") from e
        if count:
            return count
        time.sleep(1)
    raise EngineLost(f"it has had no worker for {WORKERS_S} s")


def _within(seconds: float, function: Callable[[], _Result]) -> _Result:
    """The function's result or exception, or TimeoutError; a client of a broken engine may block for ever."""
    answer: concurrent.futures.Future[_Result] = concurrent.futures.Future()

    def work() -> None:
        try:
            answer.set_result(function())
        except Exception as e:
            answer.set_exception(e)
        except BaseException as e:  # such as SystemExit, which Ray raises where nobody answers
            answer.set_exception(EngineLost(first_line(e)))

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        if answer.done():  # it is the function's own
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from None
