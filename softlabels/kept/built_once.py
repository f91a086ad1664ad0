"""Where joins are kept between runs: found again, built once, built again if damaged.

$XDG_CACHE_HOME/softlabels/built/<sha256 of a name in `joins/`, and of what lies there>     (empty)

A store may come from anybody, and its `joins/` with it. What lies in there is believed once this user has built the
same; what somebody else built is built again, and replaced only if it was something else.
"""

import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from softlabels.digests import sha256_of, sha256_of_file
from softlabels.errors import EnvironmentTrouble, JoinError
from softlabels.kept.soft_file import DIGEST_BYTES
from softlabels.os_errors import told
from softlabels.platforms import NO_LINK, NO_WAIT, lock
from softlabels.storage.file_cache import user_folder
from softlabels.storage.local import LocalStorage
from softlabels.storage.protocol import TEMPORARY, Storage
from softlabels.storage.unfinished import all_or_nothing, clock, full_disk_named, remove

logger = logging.getLogger(__name__)
Opened = TypeVar("Opened")
IN_STORE = "joins"
SWEEP_AFTER_S = 86_400
_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP}
_OURS = re.compile(
    re.escape(TEMPORARY) + r"([0-9a-f]{16}(\.npy)?|(join-[0-9a-f]{64}|\w+(-\w+)?-[0-9a-f]{64}\.npy)(\.lock)?)"
)


def cache_folder(storage: Storage, cache_dir: str | Path | None) -> Path:
    """Where joins of a store are kept: `cache_dir`, else in the store, else (a bucket, read-only, a link to somewhere)
    the user's cache."""
    if cache_dir is not None:
        return Path(cache_dir)
    if isinstance(storage, LocalStorage) and os.access(storage.root, os.W_OK):
        folder = storage.path(IN_STORE)
        if not folder.is_symlink():
            return folder
    return user_folder() / IN_STORE


def open_or_build(path: Path, open_: Callable[[], Opened], build: Callable[[Path], None]) -> Opened:
    """Open what is kept at `path`; where it is missing or damaged, let `build` make it at a temporary path first.

    Several processes that start together wait for the one that builds; one that dies leaves only a temporary behind,
    which is swept a day later, and the next one builds.

    Args:
      path: of a join, or of an array with checksums.
      open_: raises JoinError while there is nothing intact at `path`. Any other error leaves alone what is there: a
        machine without memory or descriptors says nothing of it.
    Raises: JoinError: the folder cannot be written; StorageFullError; EnvironmentTrouble; and what `open_` and `build`
      raise.
    """
    with contextlib.suppress(JoinError):
        found = open_()
        if _is_believed(path):
            return found
    with contextlib.ExitStack() as stack:
        try:
            with full_disk_named(f"'{path.parent}'", path.name):
                path.parent.mkdir(parents=True, exist_ok=True)
                _sweep(path.parent)
                stack.enter_context(_locked(path))
        except OSError as e:
            kind = JoinError if e.errno in _PLACE else EnvironmentTrouble
            raise kind(f"joins cannot be kept in '{path.parent}': {e.strerror}; name another cache_dir=") from e
        foreign = False
        try:
            found = open_()
            if _is_believed(path):
                return found
            foreign = True
            logger.info("'%s' was not built by you: building it to compare; cache_dir= names a place to trust", path)
        except JoinError as e:
            if os.path.lexists(path):
                logger.warning("%s: building it again", e)
                remove(path)
        try:
            _build(path, build, foreign=foreign)
        except OSError:
            if not path.is_dir():  # without locks another process may have made the folder meanwhile
                raise
        return open_()


class _Same(Exception):
    """What was built is what is there."""


def _build(path: Path, build: Callable[[Path], None], *, foreign: bool) -> None:
    """Let `build` make what is to be at `path`; foreign: somebody's is there, which stays if it is the same."""
    with contextlib.suppress(_Same), all_or_nothing(path) as temporary:
        build(temporary)
        _remember(path, temporary)
        if foreign and _content(temporary) == _content(path):
            raise _Same
        if foreign:
            logger.warning("'%s' was not what these inputs give: replaced", path)
            remove(path)


def _is_believed(path: Path) -> bool:
    """Whether what is intact at a path is taken for what it is called: outside of stores, or if this user built it."""
    try:
        return not _in_a_store(path) or _record(path, path).exists()
    except OSError:  # it has just been replaced
        return False


def _in_a_store(path: Path) -> bool:
    return path.parent.name == IN_STORE and (path.parent.parent / "store.json").exists()


def _record(path: Path, there: Path) -> Path:
    return user_folder() / "built" / sha256_of([path.name, _content(there)])


def _remember(path: Path, built: Path) -> None:
    """Remember that this user built what is to be at `path`."""
    if not _in_a_store(path):
        return
    record = _record(path, built)
    try:
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        record.touch(0o600)
    except OSError as e:
        logger.warning("%s: '%s' will be built again the next time; name a cache_dir=", told(e), path)


def _content(path: Path) -> str:
    """What stands for every byte of a join, which is a folder, or of a soft array; intact, they hold their digests."""
    if path.is_dir():
        return sha256_of_file(path / "join.json")
    with path.open("rb") as file:
        file.seek(-DIGEST_BYTES, os.SEEK_END)
        return file.read().hex()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a path; where the file system has none, go on without: built twice, with the same outcome."""
    name = path.parent / f"{TEMPORARY}{path.name}.lock"
    with open(os.open(name, os.O_RDWR | os.O_CREAT | NO_LINK | NO_WAIT, 0o666), "wb") as file:
        with contextlib.suppress(OSError):
            lock(file)
        try:
            yield
        finally:
            # Where an open file cannot be deleted it stays, empty, and is swept one day.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                name.unlink()


def _sweep(folder: Path) -> None:
    """Delete what killed builds left behind, and nothing else: the folder may be any that a user named."""
    found = [path for path in folder.glob(f"{TEMPORARY}*") if _OURS.fullmatch(path.name)]
    now = clock(folder) if found else 0.0
    for path in found:
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < now - SWEEP_AFTER_S:
                remove(path)
