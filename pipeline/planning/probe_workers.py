"""Probing in processes: a file whose decoder kills or hangs its process is found, named, and stops nobody else.

A pool probes the files in batches. When it loses a process, the files that may have been in its hands are probed one
by one in a process of their own. A file that loses that process twice (by SIGKILL, which comes from outside, five
times), each time after the process had seen the audio root, is to blame.
"""

import contextlib
import importlib
import time
from collections.abc import Iterator

from pipeline.planning.probe import FileProbe, probe_file
from pipeline.processes import NoWorkers, PoolBroke, WorkerLost, Workers, look, lose_alone, wait_until
from softlabels.audio.decode import AudioBudget
from softlabels.audio.root import check_root
from softlabels.errors import EnvironmentTrouble, SoftLabelsError
from softlabels.storage.location import Location

BATCH_FILES, BATCH_S = 32, 30.0  # a batch ends with the file during which its time is up
FEW_FILES = 8  # no second process is started for so many: it costs more than it saves
FILE_S = 900.0  # time limit of one file, far beyond what 16 GB or 25 hours take
LOOK_S = 60.0  # for a look at the root: a mount that hangs gives no answer
PUT_OFF = 3  # files, before somebody looks whether the root is there at all


def probe_in_processes(root: Location, paths: list[str], budget: AudioBudget, *, workers: Workers) -> list[FileProbe]:
    """Probe files, in order; what is wrong with a file is in its probe.

    Raises: EnvironmentTrouble: the root is gone, or does not answer, and does not come back.
    """
    limit_s, probes = workers.timeout_s or FILE_S, dict.fromkeys(paths, FileProbe(path=""))
    todo = dict.fromkeys(paths)
    while todo:
        try:
            batches = [(root, batch, budget) for batch in _batches(list(todo), workers.count)]
            for found in workers.each(probe_batch, batches, timeout_s=lambda _: BATCH_S + limit_s):
                for probe in found:
                    probes[probe.path] = probe
                    del todo[probe.path]
        except (PoolBroke, WorkerLost):
            suspects = list(todo)[: 2 * workers.count * len(batches[0][1])]  # two batches a worker were handed out
            for path in suspects:
                probes[path] = _probe_alone(root, path, budget, workers, limit_s)
                del todo[path]
    troubled = sum(probe.trouble != "" for probe in probes.values())
    if troubled >= PUT_OFF and (why := wait_until(lambda: _look(root, budget, workers))):
        raise EnvironmentTrouble(f"probing: {why}; the same command goes on once it is there")
    return list(probes.values())


def be_ready(root: Location, _budget: AudioBudget) -> None:
    """Have everything that probing needs in this process, and see the root. Raises: EnvironmentTrouble."""
    with contextlib.suppress(ImportError):
        importlib.import_module("av")
    check_root(root)


def probe_batch(root: Location, paths: list[str], budget: AudioBudget) -> list[FileProbe]:
    """Probe files one after the other until the time is up, one at least."""
    end, probes = time.monotonic() + BATCH_S, []
    for path in paths:
        probes.append(probe_file(root, path, budget))
        if time.monotonic() > end:
            break
    return probes


def _batches(paths: list[str], workers: int) -> Iterator[list[str]]:
    """Small enough that every worker gets some."""
    size = max(FEW_FILES, min(BATCH_FILES, len(paths) // (2 * workers)))
    for first in range(0, len(paths), size):
        yield paths[first : first + size]


def _probe_alone(root: Location, path: str, budget: AudioBudget, workers: Workers, limit_s: float) -> FileProbe:
    """One file in the lane, which stays warm as long as nothing happens to it."""
    found: list[FileProbe] = []

    def attempt() -> str:
        try:
            found.extend(workers.lane.call(probe_batch, root, [path], budget, timeout_s=limit_s))
        except WorkerLost as e:
            return str(e)
        return ""

    def control() -> None:
        if trouble := _look(root, budget, workers):
            raise EnvironmentTrouble(trouble)

    if not attempt():
        return found[0]
    try:
        reason, _, detail = lose_alone(workers.lane, attempt, control).partition(": ")
    except NoWorkers:
        raise
    except EnvironmentTrouble as e:
        return FileProbe(path=path, trouble=str(e))
    return FileProbe(path=path, reason=reason, detail=detail) if reason else found[0]


def _look(root: Location, budget: AudioBudget, workers: Workers) -> str:
    """Why the audio root cannot be read now, "" if it can."""
    try:
        look(workers.lane, be_ready, root, budget, timeout_s=LOOK_S)
    except NoWorkers:
        raise
    except (SoftLabelsError, WorkerLost) as e:
        return f"the audio root '{root}': {e}" if isinstance(e, WorkerLost) else str(e)
    return ""
