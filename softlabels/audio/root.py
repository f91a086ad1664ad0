"""The audio root: the folder, or the prefix in a bucket, below which all recordings are.

A recording in a bucket is fetched into the user's cache as a file and read from there. Whoever labels or trains digests
every byte of it first, and decoders seek back and forth, so ranged reads would save nothing.
"""

import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from softlabels.audio.decode import DEFAULT_BUDGET
from softlabels.audio.faults import os_errors_explained
from softlabels.errors import AudioError, EnvironmentTrouble, StoreError
from softlabels.os_errors import is_environment
from softlabels.platforms import leaves_folder
from softlabels.storage.bucket import ObjectStorage
from softlabels.storage.file_cache import user_cache
from softlabels.storage.location import Location
from softlabels.threads import in_threads

FileState = tuple[int, int, str, int]  # (bytes, modified in ns, entity tag, inode): another one once the content is
LISTINGS = 16  # folders of a bucket asked for at once
FETCHES = 3  # how often a recording is fetched that comes differently from its MD5


def is_there(root: Location) -> bool:
    """Whether there is an audio root. Raises: EnvironmentTrouble: nobody can say; StoreError: no bucket."""
    if not isinstance(root, Path):
        return bucket(root).is_there()
    try:
        return stat.S_ISDIR(os.stat(root).st_mode)
    except OSError as e:
        if is_environment(e):
            raise EnvironmentTrouble(f"the audio root '{root}': {e.strerror}") from e
        return False


def check_root(root: Location) -> None:
    """Raises: EnvironmentTrouble: the audio root, which was there, is gone."""
    if not is_there(root):
        raise EnvironmentTrouble(f"the audio root '{root}' is not there")


@contextmanager
def below_root(root: Path) -> Iterator[None]:
    """Errors about a recording of a folder, with their meaning; none is missing where the root is gone with it."""
    try:
        with os_errors_explained(root):
            yield
    except AudioError as e:
        if e.reason == "missing":
            check_root(root)
        raise


@contextmanager
def local_file(
    root: Location, path: str, *, sha256: str = "", max_bytes: int = DEFAULT_BUDGET.max_bytes
) -> Iterator[Path]:
    """A recording as a local file, for as long as the block lasts.

    Args:
      root: the audio root.
      path: relative to it.
      sha256: of the content, if known: then the cache may have it without a question to the bucket.
      max_bytes: a larger object is not fetched at all.
    Raises: AudioError: missing, too-long. EnvironmentTrouble: the bucket or the cache is at fault.
    """
    if isinstance(root, Path):
        with below_root(root):
            yield _below(root, path)
        return
    if sha256:
        with user_cache().borrow(sha256, lambda: _download(root, path, _fetchable(root, path, max_bytes))) as file:
            yield file
        return
    before = ""
    for _ in range(FETCHES):
        state = _fetchable(root, path, max_bytes)
        with user_cache().borrow("", functools.partial(_download, root, path, state)) as file:
            if file.name == before or _fits(file, state[1]):
                yield file
                return
            before = file.name
    raise EnvironmentTrouble(f"'{root}': {path} came differently each of {FETCHES} times")


def file_state(root: Location, path: str) -> FileState:
    """What a recording is now, without reading it. Raises: AudioError: missing; EnvironmentTrouble."""
    if isinstance(root, Path):
        with below_root(root), os_errors_explained(root / path):
            state = os.stat(_below(root, path))
        return state.st_size, state.st_mtime_ns, "", state.st_ino
    size, tag = _state(root, path)
    return size, 0, tag, 0


def file_states(root: Location, paths: Iterable[str]) -> dict[str, FileState]:
    """path -> what the recording is now, for those that are there; a bucket is asked once a folder, not once a file."""
    states: dict[str, FileState] = {}
    if isinstance(root, Path):
        for path in paths:
            with suppress(AudioError, EnvironmentTrouble):
                states[path] = file_state(root, path)
        return states
    by_key = {_key(path): path for path in paths}
    folders = sorted({str(PurePosixPath(key).parent) for key in by_key})
    calls = (("" if folder == "." else folder,) for folder in folders)
    for found in in_threads(bucket(root).states, calls, threads=LISTINGS):
        states |= {by_key[key]: (size, 0, tag, 0) for key, (size, tag) in found.items() if key in by_key}
    return states


def _below(root: Path, path: str) -> Path:
    """Where a recording is. Raises: AudioError: missing: what this system takes for a path out of the root is none."""
    if leaves_folder(path):
        raise AudioError("missing: its path leads out of the audio root on this system")
    return root / path


@functools.lru_cache(maxsize=4)
def bucket(root: str) -> ObjectStorage:
    """The bucket of an audio root; one a process, so that its connections are kept."""
    return ObjectStorage(root)


def _key(path: str) -> str:
    """`a//b/./c` is `a/b/c`, as it is in a folder."""
    return str(PurePosixPath(path))


@contextmanager
def _errors_explained() -> Iterator[None]:
    """Give a bucket's errors about a recording their meaning."""
    try:
        yield
    except FileNotFoundError as e:
        raise AudioError("missing: no such file") from e
    except StoreError as e:
        raise EnvironmentTrouble(str(e)) from e


def _state(root: str, path: str) -> tuple[int, str]:
    with _errors_explained():
        return bucket(root).state(_key(path))


def _fetchable(root: str, path: str, max_bytes: int) -> tuple[int, str]:
    """The state of an object that is not too large to be fetched. Raises: AudioError: missing, too-long."""
    size, tag = _state(root, path)
    if size > max_bytes:
        raise AudioError(f"too-long: {size:,} bytes, the budget is {max_bytes:,}")
    return size, tag


def _download(root: str, path: str, state: tuple[int, str]) -> Iterator[bytes]:
    with _errors_explained():
        yield from bucket(root).pieces(_key(path), *state)


def _fits(file: Path, tag: str) -> bool:
    """Whether the content is what the tag says, where the tag looks like an MD5: it need not be one."""
    md5 = tag.strip('"')
    if not re.fullmatch("[0-9a-f]{32}", md5):
        return True
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5
