"""What came from a bucket, kept on this machine: files by content, up to a size, shared by all processes.

$XDG_CACHE_HOME/softlabels/files/<sha256 of the content>

A name says what is in the file, so nothing here is ever out of date. The least recently used files go first; a file
that somebody has borrowed is locked and stays.
"""

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from softlabels.digests import is_sha256, known_sha256
from softlabels.errors import EnvironmentTrouble
from softlabels.platforms import NO_LINK, OPEN_IS_LOCKED, READ, lock, used_at
from softlabels.storage.protocol import TEMPORARY
from softlabels.storage.unfinished import clock, take_name, unfinished

DEFAULT_GIGABYTES = 20
ROOM = 0.9  # of the limit is left by a clearing, so that not every file that comes needs one
KEEP_TRIES = 100  # others may clear the cache meanwhile
IDLE_S = 86_400  # what nobody took for a day is not in use: half a file, or one of a file system without locks


def user_folder() -> Path:
    """Where this user's caches are, and there `softlabels`; a user without a home has none that could be written."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "softlabels"
    except RuntimeError:  # a container whose user nobody knows
        return Path(os.devnull) / "softlabels"


def user_cache() -> "FileCache":
    """This user's cache; its limit is SOFTLABELS_CACHE_GB gigabytes. Raises: ValueError: that is not a number."""
    text = os.environ.get("SOFTLABELS_CACHE_GB") or str(DEFAULT_GIGABYTES)
    try:
        return _cache_at(user_folder() / "files", round(float(text) * 1e9))
    except (ValueError, OverflowError) as e:
        raise ValueError(f"SOFTLABELS_CACHE_GB: expected a number of gigabytes, got {text!r}") from e


class FileCache:
    """A folder of files named by their content.

    folder: where; limit: bytes, which are exceeded by what is in use, and by a hundredth a process.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._fetched = 0  # bytes since the last clearing by this process

    @contextlib.contextmanager
    def borrow(self, sha256: str, fetch: Callable[[], Iterable[bytes]]) -> Iterator[Path]:
        """A file of this content, which stays where it is until the block is left.

        Args:
          sha256: of the content; "" is not known yet, and so is what no sha256 looks like: it is no name of a file.
          fetch: gets the content, in pieces, where the cache does not have it. What comes may be something else: the
            file is named by what it is.
        Raises: EnvironmentTrouble: the cache cannot be written; and what `fetch` raises.
        """
        file = (self._find(sha256) if is_sha256(sha256) else None) or self._fetch(fetch())
        try:
            yield Path(file.name)
        finally:
            file.close()
            if self._fetched > self.limit / 100:
                self._fetched = 0
                self._clear()

    def _find(self, sha256: str) -> BinaryIO | None:
        """An intact file, open and locked; a damaged one is deleted."""
        path = self.folder / sha256
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
                _lock_shared(file)
                state, here = os.fstat(file.fileno()), os.stat(path)
                content = known_sha256(path)
            except FileNotFoundError:  # cleared, perhaps between opening and locking
                return None
            except OSError as e:
                raise self._trouble(e) from e
            if state.st_ino != here.st_ino:
                return None
            if content != sha256:
                file.close()
                _delete_unused(str(path))
                return None
            with contextlib.suppress(OSError):  # a cache of somebody else's, to be read only
                # When it was last borrowed: its ctime by the clock of the file system, its atime for those close by.
                os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))
            stack.pop_all()
            return file

    def _fetch(self, pieces: Iterable[bytes]) -> BinaryIO:
        digest = hashlib.sha256()
        with contextlib.ExitStack() as stack:
            try:
                temporary = stack.enter_context(unfinished(self.folder / "content"))
                file = stack.enter_context(open(temporary, "xb"))
                _lock_shared(file)  # stays with the file when it is renamed
            except OSError as e:
                raise self._trouble(e) from e
            for piece in pieces:
                digest.update(piece)
                self._fetched += len(piece)
                try:
                    file.write(piece)
                    file.flush()
                except OSError as e:
                    raise self._trouble(e) from e
            return self._keep(temporary, digest.hexdigest())

    def _keep(self, temporary: Path, sha256: str) -> BinaryIO:
        """Give a finished and locked file its name, unless there is one: that may be in use and is never replaced."""
        for _ in range(KEEP_TRIES):
            try:
                with contextlib.suppress(FileExistsError):  # another one's has the same content
                    take_name(temporary, self.folder / sha256)
            except OSError as e:
                raise self._trouble(e) from e
            found = self._find(sha256)
            if found is not None:
                return found
        raise EnvironmentTrouble(f"the cache '{self.folder}' does not keep what is written to it")

    def _clear(self) -> None:
        """Delete what was not used for the longest time, until there is room again."""
        with contextlib.suppress(OSError):
            with os.scandir(self.folder) as entries:
                files = [(entry.stat(), entry.path) for entry in entries if _is_ours(entry)]
            size = sum(state.st_size for state, _ in files)
            if size <= self.limit:
                return
            fresh = clock(self.folder) - IDLE_S
            for state, path in sorted(files, key=lambda file: used_at(file[0])):
                if size <= self.limit * ROOM:
                    return
                # It is made before it is locked, if being open is not enough.
                if TEMPORARY not in path or state.st_mtime < fresh or OPEN_IS_LOCKED:
                    size -= state.st_size if _delete_unused(path) else 0

    def _trouble(self, e: OSError) -> EnvironmentTrouble:
        return EnvironmentTrouble(
            f"the cache '{self.folder}': {e.strerror}; make room, lower SOFTLABELS_CACHE_GB, or name another place "
            "with XDG_CACHE_HOME"
        )


@functools.lru_cache(maxsize=4)
def _cache_at(folder: Path, limit: int) -> FileCache:
    return FileCache(folder, limit)


def _lock_shared(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # a file system without locks
        lock(file, shared=True)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether a file was put here by a cache, finished or not."""
    named = is_sha256(entry.name) or entry.name.startswith(TEMPORARY)
    return named and entry.is_file(follow_symlinks=False)


def _delete_unused(path: str) -> bool:
    """Whether nobody had borrowed the file, so that it is gone now; a link is nobody's to delete."""
    try:
        if OPEN_IS_LOCKED and not os.path.islink(path):
            os.unlink(path)
            return True
        with open(os.open(path, READ | NO_LINK), "rb") as file:
            try:
                lock(file, wait=False)
            except BlockingIOError:
                return False
            except OSError:
                if os.fstat(file.fileno()).st_ctime > clock(Path(path).parent) - IDLE_S:
                    return False
            # Between opening and locking another clearing may have deleted it, and its next borrower put a new one
            # there: that one is in use. From here on nobody else deletes what we have locked.
            if not os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
                return False
            os.unlink(path)
            return True
    except OSError:
        return False
