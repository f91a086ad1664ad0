"""How a file that we kept is read again: what is wrong with it, or with the machine, is told apart in one place.

A file that is gone, cut short or not what it should be is damaged, and whoever kept it makes it again. One that the
machine does not give us now (no descriptor, no memory, no permission, an I/O error) may be intact: it is left alone.
"""

import contextlib
import errno
import mmap
import os
import stat
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from flatbuffers.table import Table
from numpy.typing import DTypeLike

from softlabels.digests import sha256_of_file
from softlabels.errors import EnvironmentTrouble, JoinError
from softlabels.platforms import NO_WAIT, READ

SMALL = 16 << 20  # bytes that are copied into memory: a mapped file that is cut meanwhile kills its reader
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG, None}
_NO_ARRAY = (ValueError, TypeError, EOFError, OverflowError, SyntaxError, tokenize.TokenError, pa.ArrowException)
REPAIR = "delete it and join again, or restore it from a copy"


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Give the errors of reading a kept file their meaning.

    Raises: JoinError: gone or damaged; EnvironmentTrouble: it cannot be read now.
    """
    try:
        yield
    except MemoryError as e:
        raise EnvironmentTrouble(f"'{path}' cannot be read now: out of memory; end other programs, then again") from e
    except OSError as e:
        if e.errno not in _GONE:
            raise EnvironmentTrouble(f"'{path}' cannot be read now: {e.strerror}; it was left as it is") from e
        raise JoinError(f"'{path}' cannot be read: {e.strerror or e}; {REPAIR}") from e
    except _NO_ARRAY as e:
        raise JoinError(f"'{path}' is damaged: {e}; {REPAIR}") from e


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading. Raises: OSError; ValueError: a pipe, a device."""
    with open(os.open(path, READ | NO_WAIT), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("expected a file")
        yield file


def read_small(path: Path, most: int) -> bytes:
    """A file that is to be read at once. Raises: JoinError: gone, or of more than so many bytes; EnvironmentTrouble."""
    with reading(path), opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"expected at most {most:,} bytes, got {size:,}")
        return file.read()


def described(path: Path, *, digest: bool = True) -> dict[str, Any]:
    """What is noted of a file when it is kept: size, and sha256 unless there is no time for it. Raises: OSError."""
    size = {"size": path.stat().st_size}
    return {**size, "sha256": sha256_of_file(path)} if digest else size


def check_file(path: Path, recorded: dict[str, Any], *, digest: bool) -> None:
    """Hold a file against what was noted of it. Raises: JoinError, EnvironmentTrouble."""
    with reading(path), opened(path) as file:
        fits = os.fstat(file.fileno()).st_size == recorded["size"]  # one that grew may be of any size
        found = described(path, digest=digest and fits)
    if any(recorded[what] != value for what, value in found.items()):
        raise JoinError(
            f"saved join '{path.parent}': {path.name} is damaged: expected {recorded}, got {found}; delete the folder "
            "and join again"
        )


def map_array(file: BinaryIO, dtype: DTypeLike, dimensions: int) -> tuple[np.ndarray, int]:
    """A .npy file that is open, memory-mapped and read-only, and its offset in there; as a plain array, for
    numpy.memmap costs a microsecond a slice.

    Raises: ValueError: not this type, not in C order, or a file that is too short; and what NumPy raises of its header.
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("expected version 1.0 of the .npy format")
    shape, fortran_order, found = np.lib.format.read_array_header_1_0(file)
    if found != np.dtype(dtype) or fortran_order or len(shape) != dimensions:
        raise ValueError(f"expected {np.dtype(dtype)} in {dimensions} dimensions, got {found}, {shape}")
    if min(shape) < 0:
        raise ValueError(f"expected lengths from 0 up, got {shape}")
    offset = file.tell()
    return np.memmap(file, found, "r", offset, shape).view(np.ndarray), offset


def open_array(path: Path, dtype: DTypeLike, dimensions: int = 1) -> np.ndarray:
    """A .npy file, memory-mapped and read-only. Raises: JoinError, EnvironmentTrouble."""
    with reading(path), opened(path) as file:
        return map_array(file, dtype, dimensions)[0]


def open_table(path: Path, schema: pa.Schema) -> pa.Table:
    """A file of Arrow record batches, looked at in full before anybody uses it: offsets in Arrow are believed.

    Raises: JoinError: another schema, batches that are compressed (a small file could ask for any memory), or values
      that lie outside the file. EnvironmentTrouble.
    """
    with reading(path), opened(path) as file:
        small = os.fstat(file.fileno()).st_size <= SMALL
        data = pa.py_buffer(file.read() if small else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        messages = pa.ipc.MessageReader.open_stream(data.slice(8))  # after the magic number it is a stream
        found = pa.ipc.read_schema(messages.read_next_message())
        if not found.equals(schema):
            raise ValueError(f"expected the columns {schema.names}, got {found}")
        batches = []
        with contextlib.suppress(StopIteration):
            while message := messages.read_next_message():
                if message.type != "record batch" or _compressed(message):
                    raise ValueError("expected batches of records that are not compressed")
                batches.append(pa.ipc.read_record_batch(message, schema))
        table = pa.Table.from_batches(batches, schema)
        table.validate(full=True)
        return table


def _compressed(message: pa.ipc.Message) -> bool:
    """Whether a record batch says that its buffers are. Source: Arrow's Message.fbs; the message was verified."""
    data = message.metadata.to_pybytes()
    header, batch = Table(data, int.from_bytes(data[:4], "little")), Table(data, 0)
    header.Union(batch, header.Offset(8))  # field 2 of Message: the header
    return batch.Offset(10) != 0  # field 3 of RecordBatch: how its body is compressed
