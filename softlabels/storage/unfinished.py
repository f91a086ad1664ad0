"""Written beside its place first, then moved there: the one way a file or folder comes to be, intact or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from softlabels.storage.protocol import TEMPORARY


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A path for a file in the folder of `target`, which is made; what is there in the end is deleted."""
    temporary = _beside(target)
    try:
        yield temporary
    finally:
        _forget(temporary)


@contextlib.contextmanager
def all_or_nothing(target: Path) -> Iterator[Path]:
    """A path with the same ending, for a file or folder that becomes `target` if all goes well, else goes away."""
    temporary = _beside(target)
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        _forget(temporary)
        raise


def _beside(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f"{TEMPORARY}{secrets.token_hex(8)}{target.suffix}"


def _forget(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # a temporary that stays is swept one day
        remove(temporary)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file that survives a power cut, once its folder is synced too."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let what was linked or renamed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or folder; a folder is moved away first, so that nobody opens a part of it."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError:
        if not path.is_dir():
            raise
        aside = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
        os.replace(path, aside)
        shutil.rmtree(aside, ignore_errors=True)
