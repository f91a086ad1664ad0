"""Spark as an engine; importing this file loads Spark's client."""

import os
import sys
from typing import Any

from joblibspark.backend import SparkDistributedBackend
from pyspark.sql import SparkSession

from pipeline.engines.streaming import TRIES, Streaming


class SparkEngine:
    """A Spark master, or Spark in processes of this machine."""

    def __init__(self, address: str | None, jobs: int) -> None:
        cores = jobs if jobs > 0 else os.cpu_count() or 1
        self._address, self._jobs = address or f"local[{cores},{TRIES}]", jobs

    def open(self) -> None:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else it takes whatever `python3` is
        self._ours = SparkSession.getActiveSession() is None
        builder = SparkSession.builder.master(self._address).appName("softlabels")
        self._session = builder.config("spark.ui.enabled", "false").getOrCreate()
        self._session.sparkContext.setLogLevel("FATAL")  # what goes wrong comes back as an exception

    def count(self) -> int:
        slots = SparkDistributedBackend().effective_n_jobs(-1)
        return min(slots, self._jobs) if self._jobs > 0 else slots

    def backend(self) -> "StreamingSpark":
        return StreamingSpark()

    def close(self) -> None:
        if self._ours:
            self._session.stop()


class StreamingSpark(Streaming, SparkDistributedBackend):
    def submit(self, func: Any, callback: Any = None) -> Any:
        return self.apply_async(func, callback)  # what joblib calls it with a warning
