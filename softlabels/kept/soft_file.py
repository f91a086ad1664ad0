"""The file of a soft half, of embeddings, audio or features: a large array that is never believed unseen.

    the array as .npy     (rows, columns) float32, of embeddings float16; others say their type in their name
    uint32 a page         crc32 of each 64 KiB of these bytes, its header among them
    32 bytes              sha256 of the checksums, which a join notes in its join.json

Opening reads the checksums alone. A page is held against its own before the first of its rows is given out, so that a
flipped bit is an error and never a label, and a join of any size opens in an instant.
"""

import hashlib
import os
import re
import weakref
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from softlabels.errors import JoinError
from softlabels.kept.kept_file import REPAIR, map_array, opened, reading
from softlabels.platforms import read_at, write_at
from softlabels.storage.unfinished import allocate
from softlabels.threads import in_threads

PAGE_BITS = 16
PAGE = 1 << PAGE_BITS  # bytes that have a checksum together
BLOCK = 256  # pages read together where all are read
DIGEST_BYTES = 32
SOFT, HALF = np.dtype("<f4"), np.dtype("<f2")  # of a soft half, of embeddings
EMBEDDING = "embedding"  # how the files of the latter begin
_TYPED = re.compile(r"(audio|features)-([iuf][0-9]{1,2}|b1)-[0-9a-f]{64}\.npy")


class CheckedRows:
    """(rows, columns) float32 or float16 on disk, memory-mapped and read-only; indexed by rows, it gives arrays.

    shape: as of an array; digest: 64 hexadecimal digits that stand for the content.
    Raises, wherever rows are asked for: JoinError: damaged; EnvironmentTrouble: cannot be read now.
    """

    def __init__(self, path: Path, file: BinaryIO, array: np.ndarray, offset: int, sums: bytes) -> None:
        self.path, self.shape, self.digest = path, array.shape, hashlib.sha256(sums).hexdigest()
        self._array, self._sums = array, np.frombuffer(sums, "<u4")
        self._first, self._end, self._width = offset, offset + array.nbytes, array.strides[0]
        self._corners = sorted({*range(0, self._width, PAGE), max(0, self._width - 1)})  # bytes of a row, a page apart
        self._unseen = np.ones(len(self._sums), bool)  # pages that nobody has looked at
        self._any_unseen = bool(len(self._sums))
        self._descriptor = os.dup(file.fileno())  # read, not mapped: what the disk cannot give is an error, no SIGBUS
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """As of an array; rows are the first axis."""
        rows = key[0] if isinstance(key, tuple) else key
        if self._any_unseen:
            self._see(np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else _row_numbers(rows, len(self)))
        return self._array[key]

    def checked(self, rows: np.ndarray) -> np.ndarray:
        """The array, of which these rows, (n,) from 0 up, have been looked at: take no others from it."""
        if self._any_unseen:
            self._see(rows)
        return self._array

    def check(self) -> None:
        """Look at every page."""
        pages = len(self._sums)
        blocks = ((range(first, min(first + BLOCK, pages)),) for first in range(0, pages, BLOCK))
        with reading(self.path):
            sums = list(chain.from_iterable(in_threads(self._read, blocks)))
        self._refuse(np.flatnonzero(np.array(sums, np.uint32) != self._sums).tolist())
        self._unseen[:] = False
        self._any_unseen = False

    def _see(self, rows: np.ndarray) -> None:
        begin = rows.astype(np.int64) * self._width + self._first
        for corner in self._corners:
            pages = (begin + corner) >> PAGE_BITS
            pages = pages[self._unseen[pages]]
            if not len(pages):
                continue
            with reading(self.path):
                some = np.unique(pages).tolist()
                self._refuse([p for p in some if self._read(range(p, p + 1)) != [self._sums[p]]])
            self._unseen[pages] = False
            self._any_unseen = bool(self._unseen.any())  # of threads that do so together the last one sees the truth

    def _read(self, pages: range) -> list[int]:
        """The checksums that pages have now."""
        return page_sums(self._descriptor, self._end, pages)

    def _refuse(self, pages: list[int]) -> None:
        if pages:
            first = max(0, pages[0] * PAGE - self._first) // max(1, self._width)
            raise JoinError(
                f"'{self.path}' is damaged: the checksums of {len(pages)} of its pages differ, the first at row "
                f"{first}; {REPAIR}"
            )


def _row_numbers(rows: Any, count: int) -> np.ndarray:
    """What an index of the first axis takes, from 0 up; what it takes wrongly, NumPy says."""
    rows = np.atleast_1d(np.asarray(rows))
    return np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64) % max(1, count)


def page_sums(descriptor: int, end: int, pages: range) -> list[int]:
    """The checksums of some pages of a file, the last of which ends at byte `end`. Raises: OSError."""
    first = pages.start * PAGE
    data = memoryview(read_at(descriptor, min(pages.stop * PAGE, end) - first, first))
    return [zlib.crc32(data[i * PAGE : (i + 1) * PAGE]) for i in range(len(pages))]


def open_soft(path: Path, shape: tuple[int, int], *, verify: bool = False, dtype: DTypeLike = SOFT) -> CheckedRows:
    """A soft array, or embeddings, to be checked page by page as it is read; verify looks at all of them now.

    Raises: JoinError: missing, of another size, or damaged. EnvironmentTrouble.
    """
    with reading(path), opened(path) as file:
        array, offset = map_array(file, dtype, 2)
        end = offset + array.nbytes
        length = 4 * -(-end // PAGE)  # of the checksums
        fits = os.fstat(file.fileno()).st_size == end + length + DIGEST_BYTES and array.shape == shape
        sums, digest = (read_at(file.fileno(), n, at) for n, at in ((length, end), (DIGEST_BYTES, end + length)))
        if not fits or digest != hashlib.sha256(sums).digest():
            columns = "classes" if _kind(path) == "soft labels" else "numbers"
            raise JoinError(
                f"'{path}' is damaged: expected the {_kind(path)} of {shape[0]} rows and {shape[1]} {columns}, and no "
                f"byte less; {REPAIR}"
            )
        checked = CheckedRows(path, file, array, offset, sums)
    if verify:
        checked.check()
    return checked


def typed_name(kind: str, dtype: DTypeLike, digest: str) -> str:
    """What the file of audio or features is called, which says what it takes to read it."""
    return f"{kind}-{np.dtype(dtype).str[1:]}-{digest}.npy"


def _kind(path: Path) -> str:
    """What a file holds, in words."""
    if typed := _TYPED.fullmatch(path.name):
        return typed[1]
    return "embeddings" if path.name.startswith(EMBEDDING) else "soft labels"


def _dtype(path: Path) -> np.dtype:
    if typed := _TYPED.fullmatch(path.name):
        return np.dtype(f"<{typed[2]}")
    return HALF if path.name.startswith(EMBEDDING) else SOFT


def check_soft(path: Path) -> None:
    """Look at every page of such an array of any shape; one of an older softlabels is passed over: nobody reads it.

    Its name says what it holds. Raises: JoinError: damaged. EnvironmentTrouble.
    """
    dtype = _dtype(path)
    with reading(path), opened(path) as file:
        array, offset = map_array(file, dtype, 2)
        outdated = os.fstat(file.fileno()).st_size == offset + array.nbytes + DIGEST_BYTES
    if not outdated:
        open_soft(path, array.shape, verify=True, dtype=dtype)


def read_in_full(path: Path, shape: tuple[int, int]) -> CheckedRows:
    """A soft array of an older softlabels, without checksums: of a file that was held against its digest just now.

    Raises: JoinError: missing, or of another size. EnvironmentTrouble.
    """
    with reading(path), opened(path) as file:
        array, offset = map_array(file, "<f4", 2)
        if array.shape != shape:
            raise ValueError(f"expected {shape}, got {array.shape}")
        return CheckedRows(path, file, array, offset, b"")


class SoftFile:
    """A soft array that is being made. Written, not mapped: a quarter of the time, and a full disk is an error."""

    def __init__(self, file: BinaryIO, array: np.memmap) -> None:
        self.array, self._descriptor = array, file.fileno()

    @contextmanager
    def mapped(self) -> Iterator[np.memmap]:
        """The array to change in place. Room for it is taken before: a full disk would be a SIGBUS then."""
        allocate(self._descriptor, self.array.offset + self.array.nbytes)
        yield self.array
        self.array.flush()

    def write_rows(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Put (n, columns) values at (n,) ascending rows, those that follow each other together."""
        ends = np.flatnonzero(np.diff(rows, append=-1) != 1) + 1
        for first, end in pairwise([0, *ends.tolist()]):
            self.write(int(rows[first]), values[first:end])

    def write(self, first_row: int, values: np.ndarray) -> None:
        """Put (n, columns) rows where they belong, from any thread."""
        self.write_items(first_row * self.array.shape[1], values)

    def write_items(self, first: int, values: np.ndarray) -> None:
        """The same of single values: first is the number of rows before times their columns, and the column."""
        data = np.ascontiguousarray(values, self.array.dtype).data.cast("B")
        offset = self.array.offset + first * self.array.itemsize
        while data:  # a call may write less than it is given
            written = write_at(self._descriptor, data, offset)
            data, offset = data[written:], offset + written


@contextmanager
def made_soft_file(path: Path, shape: tuple[int, int], *, dtype: np.dtype = SOFT) -> Iterator[SoftFile]:
    """A new array to fill inside the block, after which its checksums follow it and all is on the disk."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape=shape)
    with path.open("r+b") as file:
        yield SoftFile(file, array)
        seal(file, array.offset + array.nbytes)


def seal(file: BinaryIO, end: int) -> None:
    """Let an array that ends at byte `end` be followed by its checksums, and all of it be on the disk."""
    file.truncate(end)  # it is shorter where nothing was written at the end: no rows
    sums = _all_sums(file.fileno(), end)
    file.seek(end)
    file.write(sums + hashlib.sha256(sums).digest())
    file.flush()
    os.fsync(file.fileno())


def write_soft(path: Path, shape: tuple[int, int], blocks: Iterable[np.ndarray], *, dtype: np.dtype = SOFT) -> None:
    """Write an array from blocks of its rows, in their order; (n, columns) each."""
    row = 0
    with made_soft_file(path, shape, dtype=dtype) as made:
        for values in blocks:
            made.write(row, values)
            row += len(values)


def _all_sums(descriptor: int, end: int) -> bytes:
    """The checksums of all pages, as they are written; pages are read and summed side by side."""
    blocks = (range(first, min(first + BLOCK, -(-end // PAGE))) for first in range(0, -(-end // PAGE), BLOCK))
    sums = in_threads(page_sums, ((descriptor, end, block) for block in blocks))
    return np.fromiter(chain.from_iterable(sums), "<u4").tobytes()
