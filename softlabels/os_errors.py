"""What an error of the operating system is about: this one path, or the machine and its mounts. One table for all.

To quarantine is to blame, and blame needs proof: only errors that say something about the path itself count as content.
Every other one, those that nobody has thought of included, is the environment: the work is put off and nothing is lost.
"""

import errno
import io
import os

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})  # of one path; where the root is gone too, a mount is
CONTENT = ABSENT | {  # the path is no file that could be read, today or tomorrow, on this machine or another
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,  # a name that the file system cannot have
    errno.EILSEQ,  # the same, of its character set
}
# EACCES and EPERM of a recording are the environment: a permission is a setting of the machine, or a ticket that
# expired; the bytes are what they were, and a later run will not notice that a mode was changed.
SETTINGS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})  # of a store they last until somebody changes them

_RIGHTS = "look at its rights with `ls -ld`, or name another place"
_ROOM = "make room, then run the same command again"
_FILES = "too many files are open at once: `ulimit -n 4096`, or fewer --jobs"
NEXT_STEPS = {
    errno.ENOENT: "is the path right?",
    errno.ENOTDIR: "a part of the path is a file; is it right?",
    errno.EISDIR: "a folder is in its place; name a file",
    errno.EEXIST: "something else has its name; name another one",
    errno.ELOOP: "a link that leads to itself; name the file it should lead to",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "its disk cannot be written to; name another place",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
}
MACHINE = "see whether the disk, or the network share, is well, then run the same command again"


def is_environment(e: OSError) -> bool:
    """Whether the machine is at fault, not the path; an error without a number is not the system's.

    Example:
      >>> is_environment(OSError(errno.ESTALE, "Stale file handle")), is_environment(OSError(errno.EISDIR, "Folder"))
      (True, False)
    """
    if isinstance(e, io.UnsupportedOperation):  # a file that cannot be sought: Python drops the number of the reason
        return True
    return e.errno is not None and e.errno not in CONTENT


def is_store_trouble(e: OSError) -> bool:
    """The same of a store, whose settings are somebody's to change before a run can go on."""
    return is_environment(e) and e.errno not in SETTINGS


def told(e: Exception) -> str:
    """An error in a few words: of the system's the path and what is wrong, without its number.

    Example:
      >>> told(IsADirectoryError(errno.EISDIR, "Is a directory", "a.csv"))
      "'a.csv': Is a directory"
    """
    if not isinstance(e, OSError) or not e.strerror:
        return str(e)
    return e.strerror if e.filename is None else f"'{_text(e.filename)}': {e.strerror}"


def explained(e: Exception) -> str:
    """The same for whoever typed a command: what was done to which file (a note that begins with `while`), what to do.

    Example:
      >>> explained(PermissionError(errno.EACCES, "Permission denied", "a.csv"))
      "Permission denied while opening 'a.csv': look at its rights with `ls -ld`, or name another place"
    """
    if not isinstance(e, OSError) or not e.strerror:
        return str(e)
    opening = "" if e.filename is None else f" while opening '{_text(e.filename)}'"
    doing = next((f" {note}" for note in getattr(e, "__notes__", []) if note.startswith("while ")), opening)
    return f"{e.strerror}{doing}: {NEXT_STEPS.get(e.errno or 0, MACHINE)}"


def _text(path: object) -> object:
    return os.fsdecode(path) if isinstance(path, bytes) else path
