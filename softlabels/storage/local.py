"""A directory as a place for a store."""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from softlabels.errors import StorageFullError, StoreError
from softlabels.storage.protocol import TEMPORARY, WRITING_S, Storage, may_sweep, too_large
from softlabels.storage.unfinished import all_or_nothing, sync_folder, unfinished, write_synced


class LocalStorage(Storage):
    """A directory. Every write is a temporary file in the same folder, fsync, link or rename, fsync folder.

    Files may be read through links, as the caches of hubs have them; nothing is written or deleted through one.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def path(self, key: str) -> Path:
        return self.root / key

    def check(self) -> None:
        """Every file system links and renames atomically. Raises: StoreError: there is a file."""
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"store '{self.root}': expected a folder, got a file; name another one with -o")

    def names(self) -> set[str]:
        names = os.listdir(self.root) if self.root.is_dir() else []
        return {name for name in names if not name.startswith(TEMPORARY)}

    def get(self, key: str) -> bytes:
        return self.get_small(key, 1 << 62)

    def get_small(self, key: str, most: int) -> bytes:
        descriptor = os.open(f"{self.root}/{key}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # of a pipe, none waits
        with open(descriptor, "rb", buffering=0) as file:  # a store may have a million receipts
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise StoreError(f"'{self.root}': {key} is no file; restore it from a copy")
            if found.st_size > most:
                raise too_large(self, key, found.st_size, most)
            data: bytes | None = file.read()
        if data is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), key)
        return data

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, folder: str) -> dict[str, int]:
        if not self.path(folder).is_dir():
            return {}
        sizes = {}
        with os.scandir(self.path(folder)) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    if entry.is_file() and not entry.name.startswith(TEMPORARY):
                        sizes[f"{folder}/{entry.name}"] = entry.stat().st_size
        return dict(sorted(sizes.items()))

    def put(self, key: str, data: bytes) -> None:
        path = self._written(key)
        with full_disk_named(self.root, key):
            with all_or_nothing(path) as temporary:
                write_synced(temporary, data)
            sync_folder(path.parent)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._written(key)
        with full_disk_named(self.root, key), unfinished(path) as temporary:
            write_synced(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                if os.path.lexists(path) and not path.is_file():  # else who waits for a file there waits for ever
                    raise StoreError(f"'{self.root}': {key} is no file, or a link to nowhere; delete it") from None
                return False
            sync_folder(path.parent)
        return True

    def sweep(self, folder: str, keep: set[str], *, older_than_s: float) -> int:
        """Delete unfinished writes, and files whose key is not in `keep`, unless they are young; how many.

        An unfinished write is left alone for a minute whatever is asked: it may be somebody's who is at it.
        """
        if not self._is_own_folder(folder):
            return 0
        swept, now = 0, time.time()
        for path in self.path(folder).iterdir():
            age_s = max(older_than_s, WRITING_S) if path.name.startswith(TEMPORARY) else older_than_s
            with contextlib.suppress(FileNotFoundError):  # another one is sweeping too
                found = path.lstat()
                ours = stat.S_ISREG(found.st_mode) and may_sweep(folder, path.name)
                if ours and f"{folder}/{path.name}" not in keep and found.st_mtime < now - age_s:
                    path.unlink()
                    swept += 1
        return swept

    def _written(self, key: str) -> Path:
        """The path of a key that is about to be written. Raises: StoreError: its folder is a link."""
        folder = key.rpartition("/")[0]
        if folder and os.path.lexists(self.path(folder)) and not self._is_own_folder(folder):
            raise StoreError(
                f"'{self.root}': {folder} is a link or no folder, and nothing is written through one; make it a folder"
            )
        return self.path(key)

    def _is_own_folder(self, folder: str) -> bool:
        """Whether a folder of the store is there, and is no link to somewhere else."""
        parts = folder.split("/")
        below = [self.path("/".join(parts[: i + 1])) for i in range(len(parts))]
        return all(path.is_dir() and not path.is_symlink() for path in below)


@contextlib.contextmanager
def full_disk_named(root: str | Path, key: str) -> Iterator[None]:
    """Turn the errors of a full disk or quota, at whatever step, into the one that stops a run resumably."""
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFullError(
            f"store '{root}': {e.strerror} while writing {key}; make room, then run the same command again"
        ) from e
