"""The process in which a model file is opened first; see `first_opening`. Nothing of it is left but its exit code."""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from pipeline.models.first_opening import LIVED, NO_MEMORY, REFUSED, Kind
from pipeline.teachers.litert import open_litert
from pipeline.teachers.signatures.layout import layout_of
from pipeline.teachers.signatures.model import OpenModel
from softlabels.errors import SoftLabelsError
from softlabels.platforms import c_function, end_after, limit_memory

M_PERTURB = -6  # malloc.h
FILLINGS = (0xA5, 0xFF, 0)
MOST_WORDS = 2000
NO_MEMORY_TEXTS = ("Failed to allocate", "bad_alloc", "out of memory", "OOM when allocating", "Unable to allocate")


def main() -> None:
    """Open the model that the first argument describes, a JSON object, three times, and end."""
    how = json.loads(sys.argv[1])
    limit_this_process(how["most_s"], memory=how["device"] == "cpu")  # a GPU's driver reserves far more than it uses
    opening = {name: how[name] for name in ("shown", "portable", "device", "window")}
    try:
        for filling in FILLINGS:
            fill_memory(filling)
            score_silence(how["kind"], Path(how["path"]), **opening)
    except Exception as e:
        if _is_no_memory(e):
            os._exit(NO_MEMORY)
        words = str(e) if isinstance(e, SoftLabelsError) else f"model '{how['shown']}': {type(e).__name__}: {e}"
        Path(how["refusal"]).write_text(words[:MOST_WORDS], encoding="utf-8", errors="replace")
        os._exit(REFUSED)
    os._exit(LIVED)


def fill_memory(byte: int) -> None:
    """Let glibc fill all memory it gives out with the complement of a byte, all that comes back with it; 0 is as usual.

    A reader that uses what nobody has written is found out more surely.
    """
    if mallopt := c_function("mallopt"):
        mallopt(M_PERTURB, byte)


def limit_this_process(most_s: int, *, memory: bool) -> None:
    """No longer than so many seconds, no more memory than is free, no core dump; and the first to go if memory ends."""
    end_after(most_s)  # the parent may be gone
    limit_memory(0)
    with contextlib.suppress(OSError, ValueError, StopIteration):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # of Linux, as what follows
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        if memory:
            limit_memory(free)


def score_silence(kind: Kind, path: Path, *, shown: str, portable: bool, device: str, window: int | None) -> None:
    """Open a model and let it score one batch, the smallest it takes. Raises: whatever its reader raises."""
    if kind == "litert":
        _score(shown, open_litert(shown, path.read_bytes(), portable=portable, window=window), window)
        return
    if kind == "onnx":
        from pipeline.teachers.onnx_model import open_onnx

        _score(shown, open_onnx(path, device, shown=shown), window)
        return
    from pipeline.teachers.keras_model import keras_device, open_keras

    with keras_device(path, device) as name:
        _score(shown, open_keras(path, name, shown=shown), window)


def _score(shown: str, model: OpenModel, window: int | None) -> None:
    """All outputs, whichever are wanted: what is remembered holds for all."""
    layout = layout_of(shown, model, window)
    model.forward(np.zeros(layout.shape(layout.batch or 1), np.float32), tuple(range(len(model.outputs))))


def _is_no_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in NO_MEMORY_TEXTS)
