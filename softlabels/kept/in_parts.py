"""An array that takes long to make, made part by part: by processes, with a bar, and gone on with after a kill.

    .tmp-<its name>                                              the array so far, beside where it will be
    $XDG_CACHE_HOME/softlabels/building/<sha256 of its path>     a line a part that is done: its number, its crc32

What is done is found by the lines, which lie with this user: what a stranger put beside is nobody's to go on with. A
part counts if its bytes are those that the line speaks of.
"""

import concurrent.futures
import contextlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from softlabels.digests import sha256_of
from softlabels.errors import EnvironmentTrouble, StorageFullError
from softlabels.kept.soft_file import SoftFile, seal
from softlabels.platforms import die_with_parent, read_at
from softlabels.storage.file_cache import user_folder
from softlabels.storage.protocol import TEMPORARY
from softlabels.storage.unfinished import allocate, full_disk_named, remove
from softlabels.threads import in_threads

THREADS = 4  # of a build in one process: decoders and NumPy let others run for most of their time
_PIECE = 1 << 24  # bytes read at once to be held against their checksum
Make = Callable[[SoftFile, Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one call makes.

    spans: the items of the array that it writes, (first, end) each; seconds: of sound, for the bar; work: what it does.
    """

    spans: tuple[tuple[int, int], ...]
    seconds: float
    work: Any


def processes_for(seconds: float, each: float) -> int:
    """How many processes are worth it for so much, where one is for `each`; no more than there are cores."""
    if seconds < 2 * each:
        return 1
    import joblib

    return min(joblib.cpu_count(), int(seconds // each))


def check_room(folder: Path, size: int, what: str) -> None:
    """See that a disk has room for so many bytes. Raises: StorageFullError; OSError."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageFullError(
            f"'{folder}': {what} takes {size / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free; make room, name "
            "another place with cache_dir= or XDG_CACHE_HOME, or do without it"
        )


def build_in_parts(
    target: Path,
    temporary: Path,
    shape: tuple[int, int],
    dtype: DTypeLike,
    parts: Sequence[Part],
    make: Make,
    *,
    processes: int = 1,
    threads: int | None = None,
) -> list[int]:
    """Make an array with checksums, at `temporary`, of which the next build of `target` finds what this one has done.

    Args:
      target: where it will be; one builder at a time, or several that write the same.
      parts: always the same for a target. make: writes what one of them is about; it pickles where processes are many.
      processes: that make parts at once; 1 is this one, with so many threads.
    Returns: the numbers of the parts that were done before.
    Raises: StorageFullError: no room, before anything is made; EnvironmentTrouble: a process was killed; and what
      `make` raises: parts that are done stay so.
    """
    from tqdm import tqdm  # here, since labels are opened more often than anything is built

    partial = target.with_name(f"{TEMPORARY}{target.name}")
    notes = _Notes(target)
    done = _resumed(partial, notes, shape, dtype, parts)
    if done is None:
        _begin(partial, notes, shape, dtype)
        done = []
    before = set(done)
    todo = [number for number in range(len(parts)) if number not in before]
    total = sum(part.seconds for part in parts)
    at = sum(parts[number].seconds for number in done)
    what = f"{target.name.partition('-')[0]}, {_bytes(shape, dtype) / 1e9:,.2f} GB"
    with tqdm(total=round(total), initial=round(at), desc=what, unit="s", disable=None, leave=False, delay=1) as bar:
        for number, checksum in _made(partial, [(n, parts[n]) for n in todo], make, processes, threads or THREADS):
            notes.add(number, checksum)
            bar.update(parts[number].seconds)
    with partial.open("r+b") as file:
        seal(file, _open(partial, shape, dtype).offset + _bytes(shape, dtype))
    os.replace(partial, temporary)
    notes.remove()
    return done


class _Notes:
    """The lines about parts that are done. A user without a cache has none, and begins again after a kill."""

    def __init__(self, target: Path) -> None:
        self._path = user_folder() / "building" / sha256_of(str(target.absolute()))

    def read(self) -> list[tuple[int, int]]:
        """Number and checksum of each part; what is no line, such as one that a kill cut short, is none."""
        found = []
        with contextlib.suppress(OSError):
            for line in self._path.read_bytes().split(b"\n")[:-1]:
                with contextlib.suppress(ValueError):
                    number, checksum = line.split()
                    found.append((int(number), int(checksum)))
        return found

    def add(self, number: int, checksum: int) -> None:
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"%d %d\n" % (number, checksum))

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _resumed(
    partial: Path, notes: _Notes, shape: tuple[int, int], dtype: DTypeLike, parts: Sequence[Part]
) -> list[int] | None:
    """The parts that are done; None: there is nothing to go on with."""
    noted = notes.read()
    if not noted or partial.is_symlink() or not partial.is_file():
        return None
    try:
        array = _open(partial, shape, dtype)
    except (OSError, ValueError):
        return None
    with partial.open("rb") as file:
        sums = {n: _sum(file.fileno(), array, parts[n]) for n in {n for n, _ in noted} if n < len(parts)}
    return sorted(n for n in sums if (n, sums[n]) in set(noted))


def _begin(partial: Path, notes: _Notes, shape: tuple[int, int], dtype: DTypeLike) -> None:
    """An empty array that has its room. Raises: StorageFullError."""
    notes.remove()
    remove(partial)
    check_room(partial.parent, _bytes(shape, dtype), f"'{partial.name.removeprefix(TEMPORARY)}'")
    try:
        with full_disk_named(f"'{partial.parent}'", partial.name.removeprefix(TEMPORARY)):
            array = np.lib.format.open_memmap(partial, "w+", dtype, shape=shape)
            with partial.open("r+b") as file:
                allocate(file.fileno(), array.offset + array.nbytes)
    except BaseException:
        remove(partial)  # or the disk would stay full
        raise


def _made(
    partial: Path, todo: list[tuple[int, Part]], make: Make, processes: int, threads: int
) -> Iterator[tuple[int, int]]:
    """Number and checksum of each part, as soon as it is made."""
    if min(processes, len(todo)) < 2:
        calls = ((partial, make, part) for _, part in todo)
        sums = in_threads(_make, calls, threads=min(threads, os.cpu_count() or 1))
        yield from zip((number for number, _ in todo), sums, strict=True)
        return
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    pool = ProcessPoolExecutor(min(processes, len(todo)), initializer=die_with_parent, initargs=(os.getpid(),))
    try:
        waiting = iter(todo)
        running: dict[concurrent.futures.Future, int] = {}
        while True:
            for number, part in waiting:
                running[pool.submit(_make, partial, make, part)] = number
                if len(running) >= 3 * processes:
                    break
            if not running:
                break
            finished, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), future.result()
    except BrokenProcessPool as e:
        raise EnvironmentTrouble(
            f"'{partial}': a process that worked on it was killed ({e}); is there too little memory? What is done is "
            "kept: the same again goes on with it"
        ) from e
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _make(partial: Path, make: Make, part: Part) -> int:
    """Let one part be made. Returns: its checksum."""
    array = np.lib.format.open_memmap(partial, "r+")
    with partial.open("r+b") as file, full_disk_named(f"'{partial.parent}'", partial.name.removeprefix(TEMPORARY)):
        make(SoftFile(file, array), part.work)
        return _sum(file.fileno(), array, part)


def _sum(descriptor: int, array: np.memmap, part: Part) -> int:
    """The checksum of what is written of a part. Raises: OSError."""
    checksum, size = 0, array.itemsize
    for first, end in part.spans:
        for at in range(first * size, end * size, _PIECE):
            piece = read_at(descriptor, min(_PIECE, end * size - at), array.offset + at)
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _open(partial: Path, shape: tuple[int, int], dtype: DTypeLike) -> np.memmap:
    """Raises: OSError, ValueError: another array."""
    array = np.lib.format.open_memmap(partial, "r+")
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ValueError(f"expected {dtype} of {shape}, got {array.dtype} of {array.shape}")
    return array


def _bytes(shape: tuple[int, int], dtype: DTypeLike) -> int:
    return shape[0] * shape[1] * np.dtype(dtype).itemsize
