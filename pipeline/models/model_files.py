"""Model files, read once: what was digested is what is loaded, whatever becomes of the user's file meanwhile."""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from softlabels.digests import sha256_of_bytes
from softlabels.errors import EnvironmentTrouble, TeacherError
from softlabels.platforms import NO_WAIT

PIECE = 1 << 20


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that no other user can look into, for as long as the block lasts. Raises: EnvironmentTrouble."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="softlabels-model-", ignore_cleanup_errors=True)
    except OSError as e:
        raise _no_room(e) from e
    with folder:
        yield Path(folder.name)


def copy_file(source: Path, target: Path) -> str:
    """Copy a file of a model to a private folder; -> the sha256 of the bytes that are there now.

    Raises: TeacherError: it cannot be read. EnvironmentTrouble: the copy cannot be written.
    """
    digest = hashlib.sha256()
    with _opened(source) as file:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as copy:
                while piece := _read(source, file, PIECE):
                    digest.update(piece)
                    copy.write(piece)
        except OSError as e:
            raise _no_room(e) from e
    return digest.hexdigest()


def copy_folder(source: Path, target: Path) -> str:
    """Copy all files below a folder; -> the digest of them and of their names, see `list_digest`.

    Raises: TeacherError: a file cannot be read, or a folder in it is a link, which could lead anywhere.
      EnvironmentTrouble: the copy cannot be written.
    """
    target.mkdir()
    return list_digest({name: copy_file(source / name, target / name) for name in names_below(source)})


def write_file(target: Path, content: bytes) -> Path:
    """Write a file of a private folder; -> its path. Raises: EnvironmentTrouble: it cannot be written."""
    try:
        target.write_bytes(content)
    except OSError as e:
        raise _no_room(e) from e
    return target


def names_below(folder: Path) -> list[str]:
    """The files below a folder, links to files too. Raises: TeacherError: a folder in it is a link."""
    names = []
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        if links:
            raise TeacherError(f"model '{folder}': expected files and folders, got a link to a folder, '{links[0]}'")
        names += [Path(parent, name).relative_to(folder).as_posix() for name in files]
    return names


def list_digest(digests: dict[str, str]) -> str:
    """sha256 of a list `<sha256>  <path below folder>`, a line each, in byte order of the paths.

    `cd FOLDER && find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum` gives the same.
    """
    named = sorted((os.fsencode(name), digest.encode()) for name, digest in digests.items())
    return sha256_of_bytes(b"".join(digest + b"  " + name + b"\n" for name, digest in named))


def read_model(model: Path) -> bytes:
    """The bytes of a model file. Raises: TeacherError."""
    with _opened(model) as file:
        return _read(model, file, -1)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file: a pipe would block and a device never end. Raises: TeacherError."""
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAIT))  # noqa: SIM115
    except OSError as e:
        raise _unreadable(path, e) from e
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise TeacherError(f"model '{path}': expected a file, got a pipe or a device")
        yield file


def _read(path: Path, file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as e:
        raise _unreadable(path, e) from e


def _unreadable(path: Path, error: OSError) -> TeacherError:
    return TeacherError(f"model '{path}': cannot be read: {error.strerror or error}")


def _no_room(error: OSError) -> EnvironmentTrouble:
    return EnvironmentTrouble(
        f"a model cannot be copied to '{tempfile.gettempdir()}', from where it is loaded: {error.strerror or error}; "
        "make room, or name another folder with TMPDIR"
    )
