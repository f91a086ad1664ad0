"""What an error of the operating system is about: this one path, or the machine and its mounts. One table for all.

To quarantine is to blame, and blame needs proof: only errors that say something about the path itself count as content.
Every other one, those that nobody has thought of included, is the environment: the work is put off and nothing is lost.
"""

import errno
import io

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
