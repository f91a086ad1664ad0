"""Where joins are kept between runs: found again, built once, built again if damaged; and how arrays are opened."""

import contextlib
import errno
import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from softlabels.errors import EnvironmentTrouble, JoinError
from softlabels.storage.file_cache import user_folder
from softlabels.storage.local import LocalStorage
from softlabels.storage.protocol import TEMPORARY, Storage
from softlabels.storage.unfinished import all_or_nothing, clock, full_disk_named, remove

logger = logging.getLogger(__name__)
Opened = TypeVar("Opened")
SWEEP_AFTER_S = 86_400
_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP}
_OURS = re.compile(re.escape(TEMPORARY) + r"([0-9a-f]{16}(\.npy)?|(join-[0-9a-f]{64}|\w+-[0-9a-f]{64}\.npy)\.lock)")


def cache_folder(storage: Storage, cache_dir: str | Path | None) -> Path:
    """Where joins of a store are kept: `cache_dir`, else in the store, else (a bucket, read-only) the user's cache."""
    if cache_dir is not None:
        return Path(cache_dir)
    if isinstance(storage, LocalStorage) and os.access(storage.root, os.W_OK):
        return storage.path("joins")
    return user_folder() / "joins"


def open_or_build(path: Path, open_: Callable[[], Opened], build: Callable[[Path], None]) -> Opened:
    """Open what is kept at `path`; where it is missing or damaged, let `build` make it at a temporary path first.

    Several processes that start together wait for the one that builds; one that dies leaves only a temporary behind,
    which is swept a day later, and the next one builds.

    Args:
      open_: raises JoinError while there is nothing intact at `path`. Any other error leaves alone what is there: a
        machine without memory or descriptors says nothing of it.
    Raises: JoinError: the folder cannot be written; StorageFullError; EnvironmentTrouble; and what `open_` and `build`
      raise.
    """
    with contextlib.suppress(JoinError):
        return open_()
    with contextlib.ExitStack() as stack:
        try:
            with full_disk_named(f"'{path.parent}'", path.name):
                path.parent.mkdir(parents=True, exist_ok=True)
                _sweep(path.parent)
                stack.enter_context(_locked(path))
        except OSError as e:
            kind = JoinError if e.errno in _PLACE else EnvironmentTrouble
            raise kind(f"joins cannot be kept in '{path.parent}': {e.strerror}; name another cache_dir=") from e
        try:
            return open_()
        except JoinError as e:
            if os.path.lexists(path):
                logger.warning("%s: building it again", e)
                remove(path)
        try:
            with all_or_nothing(path) as temporary:
                build(temporary)
        except OSError:
            if not path.is_dir():  # without locks another process may have made the folder meanwhile
                raise
        return open_()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a path; where the file system has none, go on without: built twice, with the same outcome."""
    lock = path.parent / f"{TEMPORARY}{path.name}.lock"
    with lock.open("wb") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Delete what killed builds left behind, and nothing else: the folder may be any that a user named."""
    found = [path for path in folder.glob(f"{TEMPORARY}*") if _OURS.fullmatch(path.name)]
    now = clock(folder) if found else 0.0
    for path in found:
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < now - SWEEP_AFTER_S:
                remove(path)
