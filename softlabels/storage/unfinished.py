"""Written beside its place first, then moved there: the one way a file or folder comes to be, intact or not at all."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from softlabels.errors import StorageFullError
from softlabels.platforms import read_at, rename_if_free, replace_file, sync, take_room, write_at
from softlabels.storage.protocol import TEMPORARY

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_OFFERED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK)
_LONGEST_SUFFIX, _PIECE = 32, 1 << 20


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A path for a file or folder beside `target`, whose folder is made; what is there in the end is deleted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = target.suffix if len(target.suffix) <= _LONGEST_SUFFIX else ""
    temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}{suffix}"
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # a temporary that stays is swept one day
            remove(temporary)


def finish(temporary: Path, target: Path, *, replace: bool = True) -> None:
    """Give a file or folder its name: all of it is on the disk before, and the name is after.

    Raises: OSError; FileExistsError: the name is taken, and not to be replaced.
    """
    _sync_all(temporary)
    if replace:
        replace_file(temporary, target)
    else:
        take_name(temporary, target)
    _sync(target.parent)


@contextlib.contextmanager
def all_or_nothing(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """A path with the same ending, for a file or folder that becomes `target` if all goes well, else goes away.

    Raises: StorageFullError: no room; what was there before is intact. FileExistsError: as `finish`.
    """
    with full_disk_named(f"'{target.parent}'", target.name), unfinished(target) as temporary:
        try:
            yield temporary
            finish(temporary, target, replace=replace)
        except OSError as e:
            if e.filename == str(temporary):  # a person knows the other name
                e.filename = str(target)
            raise


@contextlib.contextmanager
def text_file(target: str | Path, *, replace: bool = True) -> Iterator[TextIO]:
    """A UTF-8 file under a name that a user gave, to write inside the block; it is there in full or not at all.

    Bytes of a path that are no text are written as escapes. An older file keeps its permissions, and a link goes on
    leading to it; a pipe or a terminal is written to at once.
    Raises: as `all_or_nothing`.
    """
    target = Path(target)
    if target.exists() and not target.is_file():
        with open(target, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
        return
    if replace and target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    target = Path(os.path.realpath(target)) if replace else target
    with all_or_nothing(target, replace=replace) as temporary:
        with open(temporary, "x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
        if target.exists():
            shutil.copymode(target, temporary)


def write_text(target: str | Path, text: str) -> None:
    """The same of one text."""
    with text_file(target) as file:
        file.write(text)


def take_name(temporary: Path, target: Path) -> None:
    """Give a finished file a name that nobody has: of several who try, one does. Its first name may stay.

    By a link. FAT, exFAT and some shares have none; then by a rename that replaces nothing, as good for all who use
    one machine. (An empty file made exclusively, then replaced, would be read empty by others, and stay if we died.)
    Raises: FileExistsError: somebody has it. OSError: of `NOT_OFFERED`, the file system can do neither.
    """
    try:
        os.link(temporary, target)
    except OSError as e:
        if e.errno not in NOT_OFFERED:
            raise
        if not rename_if_free(temporary, target):
            raise


@contextlib.contextmanager
def full_disk_named(place: str, name: str) -> Iterator[None]:
    """Turn the errors of a full disk or quota into the one that says what to do; note on others what was written."""
    try:
        yield
    except OSError as e:
        if e.errno not in NO_ROOM:
            e.add_note(f"while writing {name} in {place}")
            raise
        raise StorageFullError(
            f"{place}: {e.strerror} while writing {name}; make room, then run the same command again"
        ) from e


def allocate(descriptor: int, size: int) -> None:
    """Take room for the first bytes of a new file: written through a map, a full disk is a SIGBUS, not an error."""
    try:
        take_room(descriptor, max(1, size))
    except OSError as e:
        if e.errno not in NOT_OFFERED:
            raise
        for start in range(0, size, _PIECE):
            piece = read_at(descriptor, min(_PIECE, size - start), start).ljust(min(_PIECE, size - start), b"\0")
            while piece:  # a call may write less than it is given
                written = write_at(descriptor, piece, start)
                piece, start = piece[written:], start + written


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet; not synced."""
    with open(path, "xb") as file:
        file.write(data)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file. NumPy's own errors have no number: a full disk could not be told from another fault."""
    array = np.ascontiguousarray(array)
    with open(path, "xb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data.cast("B") if array.size else b"")


def clock(folder: Path) -> float:
    """The time now, by the clock that dates the files of a folder: its server's, which need not be this machine's."""
    with unfinished(folder / "clock") as marker:
        write_new(marker, b"")
        return marker.stat().st_mtime


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
        replace_file(path, aside)
        shutil.rmtree(aside, ignore_errors=True)


def _sync_all(path: Path) -> None:
    """Let a file, or a folder with all that is in it, survive a power cut."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))
    if not path.is_dir():
        _sync(path)


def _sync(path: Path) -> None:
    """Let a file, or the names in a folder, survive a power cut; not every file system does so for a folder."""
    try:
        sync(path)
    except OSError as e:
        if not path.is_dir() or e.errno not in (*NOT_OFFERED, errno.EACCES):
            raise
