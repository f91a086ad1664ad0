"""A directory as a place for a store."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from softlabels.errors import EnvironmentTrouble, StorageFullError, StoreError
from softlabels.platforms import NO_WAIT, READ
from softlabels.storage.protocol import MOST_AT_ONCE, TEMPORARY, WRITING_S, Storage, may_sweep, too_large
from softlabels.storage.unfinished import NOT_OFFERED, clock, finish, full_disk_named, take_name, unfinished, write_new

LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
NO_FILE = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EISDIR)


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

    def check(self, *, by_writing: bool = True) -> None:
        """See, before any work is done, whether files can be made here, and be named only if nothing has the name.

        Raises: StoreError: there is a file, or it may not be written; StorageFullError; EnvironmentTrouble.
        """
        folder = next(each for each in (self.root, *self.root.absolute().parents) if os.path.lexists(each))
        if not folder.is_dir():
            where = "" if folder == self.root else f" at '{folder}'"
            got = "a link to nowhere" if folder.is_symlink() and not folder.is_file() else "a file"
            raise StoreError(f"store '{self.root}': expected a folder, got {got}{where}; name another one with -o")
        if not by_writing and os.access(folder, os.W_OK | os.X_OK):  # else the system says why not
            return
        try:
            with self._full_disk_named("its first file"):
                _try_names(folder / "check")
        except StorageFullError:
            if not self.exists("store.json"):  # else there may be nothing left to write
                raise
        except OSError as e:
            if e.errno in NOT_OFFERED:
                raise EnvironmentTrouble(
                    f"store '{self.root}': its file system can neither link nor rename without replacing, so that two "
                    "runs could not be told apart; label onto another disk, and copy the store when it is done"
                ) from e
            if not self.exists("store.json"):
                raise StoreError(f"store '{self.root}': {e.strerror}; name another place with -o") from e

    def names(self) -> set[str]:
        names = os.listdir(self.root) if self.root.is_dir() else []
        return {name for name in names if not name.startswith(TEMPORARY)}

    def get(self, key: str) -> bytes:
        return self.get_small(key, MOST_AT_ONCE)

    def get_small(self, key: str, most: int) -> bytes:
        descriptor = self._open(key)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise StoreError(f"'{self.root}': {key} is no file; restore it from a copy")
            if found.st_size > most:
                raise too_large(self, key, found.st_size, most)
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                data: bytes | None = file.read()
        finally:
            os.close(descriptor)
        if data is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), key)
        return data

    def _open(self, key: str) -> int:
        """A descriptor. Raises: FileNotFoundError, also below what is no folder; StoreError: no file at all."""
        path = f"{self.root}/{key}"
        try:
            return os.open(path, READ | NO_WAIT)  # of a pipe, none waits
        except NotADirectoryError as e:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from e
        except OSError as e:
            if e.errno in NO_FILE:
                raise StoreError(f"'{self.root}': {key} is no file: {e.strerror}; restore it from a copy") from e
            raise

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, folder: str) -> dict[str, int]:
        if not self.path(folder).is_dir():
            return {}
        sizes = {}
        with os.scandir(self.path(folder)) as entries:
            for entry in entries:
                try:
                    if entry.is_file() and not entry.name.startswith(TEMPORARY):
                        sizes[f"{folder}/{entry.name}"] = entry.stat().st_size
                except OSError as e:
                    if e.errno not in LEADS_NOWHERE:  # deleted meanwhile, or a link to nowhere
                        raise
        return dict(sorted(sizes.items()))

    def put(self, key: str, data: bytes) -> None:
        self._write(key, data, replace=True)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        try:
            self._write(key, data, replace=False)
        except FileExistsError:
            path = self.path(key)
            if os.path.lexists(path) and not path.is_file():  # else who waits for a file there waits for ever
                raise StoreError(f"'{self.root}': {key} is no file, or a link to nowhere; delete it") from None
            return False
        return True

    def sweep(self, folder: str, keep: set[str], *, older_than_s: float) -> int:
        """Delete unfinished writes, and files whose key is not in `keep`, unless they are young; how many.

        An unfinished write is left alone for a minute whatever is asked: it may be somebody's who is at it. A folder
        that is a link is somebody else's.
        """
        place = self.path(folder)
        if not self._is_own_folder(folder):
            return 0
        with os.scandir(place) as entries:
            listed = [e for e in entries if f"{folder}/{e.name}" not in keep and may_sweep(folder, e.name)]
            spare = [entry for entry in listed if entry.is_file(follow_symlinks=False)]
        swept, now = 0, clock(place) if spare else 0.0
        for entry in spare:
            age_s = max(older_than_s, WRITING_S) if entry.name.startswith(TEMPORARY) else older_than_s
            with contextlib.suppress(FileNotFoundError):  # another one is sweeping too
                if entry.stat(follow_symlinks=False).st_mtime < now - age_s:
                    os.unlink(entry.path)
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

    def _write(self, key: str, data: bytes, *, replace: bool) -> None:
        path = self._written(key)
        try:
            with self._full_disk_named(key), unfinished(path) as temporary:
                write_new(temporary, data)
                finish(temporary, path, replace=replace)
        except IsADirectoryError as e:
            raise StoreError(f"'{self.root}': {key} is a folder, expected a file; delete it") from e

    def _full_disk_named(self, key: str) -> contextlib.AbstractContextManager[None]:
        return full_disk_named(f"store '{self.root}'", key)


def _try_names(path: Path) -> None:
    """Name a file, and see that the next one does not get the name. Raises: OSError."""
    with unfinished(path) as first, unfinished(path) as second, unfinished(path) as name:
        for each in (first, second):
            write_new(each, b"1")
        take_name(first, name)
        with contextlib.suppress(FileExistsError):
            take_name(second, name)
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))
