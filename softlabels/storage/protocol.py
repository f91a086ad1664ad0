"""Storage: what every place that keeps a store's bytes can do: get, list, put, and put-if-absent.

Keys are relative POSIX paths such as `receipts/00017.g0.json`.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from softlabels.errors import StoreError

TEMPORARY = ".tmp-"  # file names with this prefix are unfinished writes and never listed
WRITING_S = 60.0
MOST_AT_ONCE = 1 << 30  # bytes of a file whose size nobody has written down: more is none of ours, but fills the memory
UNFINISHED = re.compile(r"\.tmp-[0-9a-f]{16}(\.\w+)?")
SWEPT = {  # the only files that are ever swept, by their folder; beside them, what is unfinished
    "shards": re.compile(r"[0-9]{5,10}-[0-9a-f]{12}\.parquet"),
    "components": re.compile(r"[0-9a-f]{12}\.parquet"),
    "claims": re.compile(r"(beat-[0-9a-f]{16}|(shard|plan)-[0-9]{4,10}\.c[0-9]{1,9})"),
}


class Storage(Protocol):
    """A place that keeps bytes under keys: a directory, or a prefix in a bucket. `str(storage)` opens it again."""

    def __str__(self) -> str: ...

    def check(self, *, by_writing: bool = True) -> None:
        """See whether a store can be written here. Raises: StoreError: before any work is done.

        Args:
          by_writing: try it; without, only look.
        """

    def names(self) -> set[str]:
        """What is at the top: names of files and folders."""

    def get(self, key: str) -> bytes:
        """The bytes under a key. Raises: FileNotFoundError; StoreError: more than anything but a shard can have."""

    def get_small(self, key: str, most: int) -> bytes:
        """The same of a file that has at most so many bytes. Raises: FileNotFoundError, StoreError."""
        data = self.get(key)
        if len(data) > most:
            raise too_large(self, key, len(data), most)
        return data

    def get_content(self, key: str, sha256: str, most: int) -> bytes:
        """`get_small` of what is named by content, so that a cache may answer; check its sha256."""
        return self.get_small(key, most)

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes]:
        """The bytes under each key, in order: a store may have a million receipts. Raises: FileNotFoundError."""
        return map(self.get, keys)

    def exists(self, key: str) -> bool: ...

    def list(self, folder: str) -> dict[str, int]:
        """key -> size in bytes of every finished file in a folder, sorted by key; {} where there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace, atomically."""

    def put_if_changed(self, key: str, data: bytes) -> None:
        """Write or replace, unless these very bytes are there already."""
        with contextlib.suppress(FileNotFoundError, StoreError):
            if self.get_small(key, len(data)) == data:
                return
        self.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless something is there already; True if this call wrote it. Atomic between writers."""

    def sweep(self, folder: str, keep: set[str], *, older_than_s: float) -> int:
        """Delete what is unfinished or not in `keep`, unless it is young or not ours to delete; how many."""


def too_large(storage: Storage, key: str, size: int, most: int) -> StoreError:
    return StoreError(f"'{storage}': {key} has {size:,} bytes, expected at most {most:,}; restore it from a copy")


def may_sweep(folder: str, name: str) -> bool:
    """Whether a file's name is one that softlabels writes, in a folder that it sweeps."""
    ours = SWEPT.get(folder)
    return UNFINISHED.fullmatch(name) is not None or (ours is not None and ours.fullmatch(name) is not None)
