"""A teacher of somebody's own is somebody's own code: what it raises is told with its place, and cannot end a run."""

import importlib.util
import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softlabels.errors import EnvironmentTrouble, SoftLabelsError, TeacherError
from softlabels.os_errors import is_store_trouble

_NOT_THEIRS = tuple(f"{Path(__file__).parents[2] / package}{os.sep}" for package in ("pipeline", "softlabels"))
_INSTALLED = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@contextmanager
def theirs_explained(kind: str, doing: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Tell what a teacher's code raises while it is at work.

    Args:
      kind: of the teacher.
      doing: what it is at work with.
      but: what the caller explains.

    Raises: TeacherError, for `sys.exit` too: the exit code of a run is not a teacher's to give. EnvironmentTrouble: the
      machine was at fault. What has its meaning already, as it is.
    """
    try:
        yield
    except (SoftLabelsError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as e:
        if isinstance(e, but):
            raise
        trouble = isinstance(e, OSError) and is_store_trouble(e)
        raise (EnvironmentTrouble if trouble else TeacherError)(
            f"teacher {kind!r}: {doing} raised {in_words(e)}"
        ) from e


def in_words(e: BaseException) -> str:
    """Type and text of an exception, and its place."""
    return f"{type(e).__name__}: {e}{place_of(e)}"


def place_of(e: BaseException) -> str:
    """Where an exception was raised: the last place in code that is not installed; "" if it never came there."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if not f.filename.startswith((*_NOT_THEIRS, "<"))]
    theirs = [frame for frame in frames if not frame.filename.startswith(_INSTALLED)] or frames
    return f" ({theirs[-1].filename}, line {theirs[-1].lineno}: `{theirs[-1].line}`)" if theirs else ""


def hidden_module(name: str) -> str:
    """Why it is not a file of the current folder that is imported under a name; "" if it is, or there is none."""
    top = name.partition(".")[0]
    files = [file for file in (Path(f"{top}.py").resolve(), Path(top, "__init__.py").resolve()) if file.is_file()]
    spec = importlib.util.find_spec(top) if files else None
    if spec is None or (spec.origin and Path(spec.origin).resolve() in files):
        return ""
    return f"'{files[0]}' is hidden by another module of the name {top!r} ({spec.origin}): rename yours"
