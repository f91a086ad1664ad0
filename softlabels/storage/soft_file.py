"""The file of a soft half: a .npy array, then a digest of its bytes; and how arrays are memory-mapped."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from softlabels.errors import JoinError
from softlabels.storage.unfinished import allocate
from softlabels.threads import in_threads

DIGEST_BYTES, DIGEST_BLOCK = 32, 16 << 20


def open_array(path: Path) -> np.ndarray:
    """A .npy file, memory-mapped and read-only, as a plain array: numpy.memmap costs a microsecond a slice."""
    try:
        return np.load(path, mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError, EOFError) as e:
        raise JoinError(f"saved join: '{path}' cannot be read: {e}; delete its folder and join again") from e


def open_soft(path: Path, shape: tuple[int, int], *, verify: bool = False) -> np.ndarray:
    """A soft array, memory-mapped and read-only; verify holds its bytes against the digest that follows them.

    Raises: JoinError: missing, or of another size or digest.
    """
    array = open_array(path)
    length = path.stat().st_size - DIGEST_BYTES
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)  # the array begins after it
        intact = array.shape == shape and length == file.tell() + array.nbytes
        if intact and verify:
            intact = _digest_of(file, length) == os.pread(file.fileno(), DIGEST_BYTES, length)
    if not intact:
        raise JoinError(
            f"'{path}' is damaged: expected the soft labels of {shape[0]} rows and {shape[1]} classes, and no byte less"
        )
    return array


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
        """Put (n, classes) float32 values at (n,) ascending rows, those that follow each other together."""
        ends = np.flatnonzero(np.diff(rows, append=-1) != 1) + 1
        for first, end in pairwise([0, *ends.tolist()]):
            self.write(int(rows[first]), values[first:end])

    def write(self, first_row: int, values: np.ndarray) -> None:
        """Put (n, classes) float32 rows where they belong, from any thread."""
        data = np.ascontiguousarray(values, np.float32).data.cast("B")
        offset = self.array.offset + first_row * self.array.strides[0]
        while data:  # a call may write less than it is given
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written


@contextmanager
def made_soft_file(path: Path, shape: tuple[int, int]) -> Iterator[SoftFile]:
    """A new soft array to fill inside the block, after which its digest follows it and all is on the disk."""
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape=shape)
    end = array.offset + array.nbytes
    with path.open("r+b") as file:
        yield SoftFile(file, array)
        file.seek(0, os.SEEK_END)
        if file.tell() < end:  # nothing was written at the end: no rows
            file.truncate(end)
        digest = _digest_of(file, end)
        file.seek(end)
        file.write(digest)
        file.flush()
        os.fsync(file.fileno())


def write_soft(path: Path, shape: tuple[int, int], blocks: Iterable[np.ndarray]) -> None:
    """Write a soft array from blocks of its rows, in their order; (n, classes) float32 each."""
    row = 0
    with made_soft_file(path, shape) as made:
        for values in blocks:
            made.write(row, values)
            row += len(values)


def _digest_of(file: BinaryIO, length: int) -> bytes:
    """sha256 over the sha256 of each block of the first bytes of a file: blocks are read and hashed side by side."""

    def digest(offset: int) -> bytes:
        return hashlib.sha256(os.pread(file.fileno(), min(DIGEST_BLOCK, length - offset), offset)).digest()

    blocks = in_threads(digest, ((offset,) for offset in range(0, length, DIGEST_BLOCK)))
    return hashlib.sha256(b"".join(blocks)).digest()
