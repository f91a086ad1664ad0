"""Dask as an engine; importing this file loads Dask."""

import concurrent.futures
from typing import Any

import distributed
from joblib._dask import DaskDistributedBackend

from pipeline.engines.streaming import CONNECT_S, Streaming
from softlabels.errors import EnvironmentTrouble


class DaskEngine:
    """A Dask cluster that runs already; its workers need one thread each, and all of them are used."""

    def __init__(self, address: str | None, _jobs: int) -> None:
        self._address = address

    def open(self) -> None:
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

    def backend(self) -> "StreamingDask":
        return StreamingDask(client=self._client)

    def close(self) -> None:
        self._client.close(timeout=CONNECT_S)


class StreamingDask(Streaming, DaskDistributedBackend):
    """joblib 1.6 never calls back for a task that Dask gave up, and so would wait for ever; this does."""

    def submit(self, func: Any, callback: Any = None) -> Any:
        if self.client.status != "running":
            return concurrent.futures.Future()  # nobody waits for it: the round is over
        job = super().submit(func, callback)
        job.add_done_callback(lambda done: callback(done.exception()) if done.exception() else None)
        return job
