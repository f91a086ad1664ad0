"""Ray as an engine; importing this file loads Ray."""

import os
import signal
import threading
from typing import Any

import ray
from ray.util.joblib.ray_backend import RayBackend

from pipeline.engines.streaming import TRIES, Streaming
from softlabels.errors import EnvironmentTrouble


class RayEngine:
    """A Ray cluster that runs already, or one on this machine."""

    def __init__(self, address: str | None, jobs: int) -> None:
        self._address, self._jobs = address, jobs

    def open(self) -> None:
        self._ours = not ray.is_initialized()
        if not self._ours:
            return
        before = signal.getsignal(signal.SIGTERM)  # Ray takes it, and a run stopped by a scheduler would say nothing
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self._address:
            ray.init(self._address, **quiet)
        else:
            cpus = max(2, self._jobs if self._jobs > 0 else os.cpu_count() or 1)
            # Nothing big goes through Ray's memory: tasks and answers are small, labels go to the store.
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=100_000_000, **quiet)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)

    def count(self) -> int:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if cpus == 1:
            raise EnvironmentTrouble(
                "--backend ray: the cluster has one CPU, with which joblib would run the tasks in this very process; "
                "add another, or use --backend loky"
            )
        return min(cpus, max(2, self._jobs)) if self._jobs > 0 else cpus

    def backend(self) -> "StreamingRay":
        # A CPU each, or Ray would put all of them on one node; a dead one is started again and its tasks are tried
        # again, or the pool would go on handing tasks to it.
        actor = {"num_cpus": 1, "max_restarts": -1, "max_task_retries": TRIES - 1}
        return StreamingRay(nesting_level=0, ray_remote_args=actor)

    def close(self) -> None:
        if self._ours:
            ray.shutdown()


class StreamingRay(Streaming, RayBackend):
    _pool: Any

    def terminate(self) -> None:
        """Kill: an actor that is asked to end waits for its tasks, and is then started again."""
        pool, self._pool = self._pool, None
        for actor, _ in pool._actor_pool if pool else []:
            ray.kill(actor)
