"""The process in which a model file is opened first; see `first_opening`. Nothing of it is left but its exit code."""

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from pipeline.teachers.batch_teacher import OpenModel, waveform_shape
from pipeline.teachers.first_opening import LIVED, NO_MEMORY, REFUSED, Kind
from pipeline.teachers.interpreter import answer, open_interpreter

NO_MEMORY_TEXTS = ("Failed to allocate", "bad_alloc", "out of memory", "OOM when allocating", "Unable to allocate")


def main() -> None:
    """Open the model of the first argument, a JSON object of the fields of `Opening` and `most_s`, and end."""
    how = json.loads(sys.argv[1])
    limit_this_process(how["most_s"], memory=how["device"] == "cpu")  # a GPU's driver reserves far more than it uses
    try:
        score_silence(how["kind"], Path(how["path"]), portable=how["portable"], device=how["device"])
    except Exception as e:
        os._exit(NO_MEMORY if _is_no_memory(e) else REFUSED)
    os._exit(LIVED)


def limit_this_process(most_s: int, *, memory: bool) -> None:
    """No longer than so many seconds, no more memory than is free, no core dump; and the first to go if memory ends."""
    signal.alarm(most_s)  # by default it kills, and the parent may be gone
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError, StopIteration):
        Path("/proc/self/oom_score_adj").write_text("1000")
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        if memory:
            resource.setrlimit(resource.RLIMIT_DATA, (free, free))


def score_silence(kind: Kind, path: Path, *, portable: bool, device: str) -> None:
    """Open a model and let it score one batch, the smallest it takes. Raises: whatever its reader raises."""
    if kind == "litert":
        interpreter = open_interpreter(str(path), path.read_bytes(), portable=portable)
        details = interpreter.get_input_details()[0]
        answer(interpreter, np.zeros(details["shape"], details["dtype"]))
        return
    if kind == "onnx":
        from pipeline.teachers.onnx_model import open_onnx

        _score(path, open_onnx(path, device))
        return
    from pipeline.teachers.keras_model import open_keras, tensorflow_device

    with tensorflow_device(device) as name:
        _score(path, open_keras(path, name))


def _score(path: Path, model: OpenModel) -> None:
    batch, samples, channels = waveform_shape(str(path), model)
    model.forward(np.zeros((batch or 1, samples, *channels), np.float32))


def _is_no_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in NO_MEMORY_TEXTS)
