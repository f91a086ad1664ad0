"""Fitting components: before a store is made, some windows of its plan are labelled with all the teacher's classes.

They go into a store of their own, which is thrown away, by the same workers under the same care as all labels: a window
that cannot be labelled is left out. What comes of it depends on plan, audio and teacher alone.
"""

import dataclasses
import tempfile
from collections.abc import Callable

import numpy as np

from pipeline.labelling.worker import ShardStatus, ShardTask
from pipeline.planning.components import ComponentChoice, draw_windows
from pipeline.planning.prepare import Preparation
from pipeline.planning.principal import fit_components
from pipeline.processes import Workers
from pipeline.running.rounds import Rounds
from softlabels.errors import EnvironmentTrouble
from softlabels.records.receipts import current_receipt
from softlabels.records.shard import decode_shard
from softlabels.records.spec import LabelSpec
from softlabels.storage.local import LocalStorage

SHARD = 16  # windows


def fit_if_new(prepared: Preparation, workers: Workers, on_fit: Callable[[int, int | None], None]) -> Preparation:
    """The preparation with the components of a new store, if it is to have some and has none yet.

    Args:
      workers: as of `Rounds`.
      on_fit: called with how many windows are to be scored, and again with how many components they gave.
    Raises: TeacherError, EnvironmentTrouble, StorageFullError: what would stop the labelling too.
    """
    choice, classes = prepared.components, prepared.teacher.classes
    if not choice.to_fit:
        return prepared
    drawn = draw_windows(prepared.new)
    on_fit(len(drawn), None)
    everything = {"class_digest": classes.digest, "teacher_class_digest": "", "layout": "dense", "min_probability": 0.0}
    spec = LabelSpec.from_json(prepared.spec.to_json() | everything | {"jitters": 1, "embedding": 0})
    with tempfile.TemporaryDirectory(prefix="softlabels-") as folder:
        task = ShardTask(shard=0, clips=(), spec=spec, teacher=prepared.choice, root=str(prepared.root), store=folder)
        slices = [tuple(drawn[first : first + SHARD]) for first in range(0, len(drawn), SHARD)]
        tasks = [dataclasses.replace(task, shard=shard, clips=clips) for shard, clips in enumerate(slices)]
        Rounds(workers=workers, on_status=_not_put_off).run(tasks)
        probabilities = _read(LocalStorage(folder), len(tasks), spec, len(classes))
    components = fit_components(probabilities, classes, most=choice.to_fit)
    on_fit(len(probabilities), 0 if components is None else len(components))
    if components is None:
        return prepared
    fitted = dataclasses.replace(ComponentChoice.of(components, components.to_bytes()), to_fit=choice.to_fit)
    return dataclasses.replace(prepared, components=fitted, spec=dataclasses.replace(prepared.spec, **fitted.settings))


def _not_put_off(status: ShardStatus) -> None:
    """A machine in trouble must not decide which windows count."""
    if status.outcome == "deferred":
        raise EnvironmentTrouble(f"no components could be fitted, the environment is at fault: {status.message}")


def _read(storage: LocalStorage, shards: int, spec: LabelSpec, classes: int) -> np.ndarray:
    """(rows, classes) float32, shard by shard."""
    receipts = [current_receipt(storage, shard) for shard in range(shards)]
    found = [
        decode_shard(storage.get_small(receipt.file, receipt.size), spec, classes).probabilities
        for receipt in receipts
        if receipt
    ]
    return np.concatenate([np.zeros((0, classes), np.float32), *found])
