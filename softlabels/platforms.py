"""What Linux, macOS and Windows do differently: locks, reads at a place, names, the disk, signals, a parent's death.

The only file that asks which system this is. What a system cannot do is left out where that is safe, and said here:

                         Linux           macOS             Windows
  lock of a file         flock           flock             LockFileEx, of a byte far beyond its end
  open file              may be deleted  may be deleted    is locked by being open, and cannot be
  new name, if free      link, renameat2 link, renamex_np  link, rename
  folder's names synced  fsync           F_FULLFSYNC       by NTFS itself
  death with the parent  prctl           watched for       waited for
"""

import contextlib
import ctypes
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # Windows makes one byte of two where it is not told otherwise
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # of a pipe, none waits; Windows has none among its files
NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows follows one, which only an administrator can make
OPEN_IS_LOCKED = sys.platform == "win32"  # no open or mapped file can be deleted, replaced or renamed
WARNINGS = tuple(  # signals that a scheduler sends before it kills; Windows has Ctrl-Break
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGBREAK") if hasattr(signal, name)
)
PR_SET_PDEATHSIG = 1
_WATCHED_EVERY_S = 1.0
_LATER_S = 60  # where its end has no name: who started it looks at the clock first, and knows what it means
_REPLACE_TRIES, _REPLACE_PAUSE_S = 20, 0.1  # a virus scanner or an indexer has every new file open for a moment
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # of Linux
_RENAME_EXCL = 4  # of macOS
_KILLED_BY_WINDOWS = 0xC0000000  # and above are exit codes of processes that an exception ended
_place = threading.Lock()  # of a descriptor, where it has to be moved to read

if sys.platform == "win32":
    import msvcrt

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _EXCLUSIVE, _AT_ONCE, _LOCK_VIOLATION = 2, 1, 33
    _SYNCHRONIZE, _FOR_EVER = 0x100000, 0xFFFFFFFF
    _kernel32.OpenProcess.restype = ctypes.c_void_p

    class _At(ctypes.Structure):
        """OVERLAPPED: where in a file; locks bind everybody, so ours is of a byte that nobody reads or writes."""

        _fields_ = (
            ("internal", ctypes.c_size_t * 2),
            ("offset", ctypes.c_uint32 * 2),
            ("event", ctypes.c_void_p),
        )

    def lock(file: BinaryIO, *, shared: bool = False, wait: bool = True) -> None:
        """See below."""
        flags = (0 if shared else _EXCLUSIVE) | (0 if wait else _AT_ONCE)
        at = _At(offset=(ctypes.c_uint32 * 2)(0, 1 << 30))
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(file.fileno()))
        if not _kernel32.LockFileEx(handle, flags, 0, 1, 0, ctypes.byref(at)):
            number = ctypes.get_last_error()
            if number == _LOCK_VIOLATION:
                raise BlockingIOError(0, "locked by another process")
            raise ctypes.WinError(number)

else:
    import fcntl

    def lock(file: BinaryIO, *, shared: bool = False, wait: bool = True) -> None:
        """Lock an open file for as long as it is open, whatever its name becomes; a process that dies lets it go.

        Many may hold it shared, or one alone. None of the libraries for locks that were looked at does this: filelock
        knows files of its own only, and portalocker's shared locks on Windows keep their own holder from writing.

        Raises: BlockingIOError: held by another, and not to wait; OSError: a file system without locks.
        """
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def read_at(descriptor: int, count: int, position: int) -> bytes:
    """At most so many bytes of a file from a position on, from any thread. Raises: OSError."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, position)
    with _place:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.read(descriptor, count)


def read_into(descriptor: int, buffer: memoryview, position: int) -> int:
    """The same into memory that is there; -> how many bytes came. Raises: OSError."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], position)
    data = read_at(descriptor, len(buffer), position)
    buffer[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: bytes | memoryview, position: int) -> int:
    """Write to a position of a file, from any thread; -> how many bytes went, perhaps not all. Raises: OSError."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, position)
    with _place:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, data)


def take_room(descriptor: int, size: int) -> None:
    """Let the first bytes of a file have their place on the disk. Raises: OSError: no room; ENOSYS: no way to."""
    if not hasattr(os, "posix_fallocate"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    os.posix_fallocate(descriptor, 0, size)


def sync(path: Path) -> None:
    """Let a file, or the names in a folder, survive a power cut. Raises: OSError: a folder that cannot be synced."""
    if sys.platform == "win32" and path.is_dir():  # it has no way to; NTFS keeps a journal of names
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        if sys.platform == "darwin":  # its fsync leaves the bytes in the drive's own memory
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
                return
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, target: Path) -> None:
    """`os.replace`; on Windows, tried again for two seconds while somebody has the other file open. Raises: OSError."""
    for _ in range(_REPLACE_TRIES if OPEN_IS_LOCKED else 0):
        try:
            os.replace(path, target)
            return
        except PermissionError:
            time.sleep(_REPLACE_PAUSE_S)
    os.replace(path, target)


def rename_if_free(path: Path, target: Path) -> bool:
    """Rename a file unless there is something of the other name; -> False where this system has no way to.

    Raises: FileExistsError; OSError: its file system has no way to.
    """
    if sys.platform == "win32":
        os.rename(path, target)  # replaces nothing there
        return True
    names, no = (os.fsencode(path), os.fsencode(target)), 0
    if rename := c_function("renameat2"):
        no = rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)
    elif rename := c_function("renamex_np"):
        no = rename(*names, _RENAME_EXCL)
    else:
        return False
    if no:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
    return True


def used_at(state: os.stat_result) -> tuple[int, int]:
    """When a file was last given new times, as a key to sort by: its ctime, which is its making on Windows."""
    return (0 if OPEN_IS_LOCKED else state.st_ctime_ns, state.st_atime_ns)


def is_mine_alone(state: os.stat_result) -> bool:
    """Whether no other user can have written a file; on Windows that is up to the profile it lies in."""
    return not hasattr(os, "geteuid") or (state.st_uid == os.geteuid() and not state.st_mode & 0o022)


def c_function(name: str) -> Any:
    """A function of the C library; None where there is none of this name."""
    with contextlib.suppress(AttributeError, OSError):
        return getattr(ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None, use_errno=True), name)
    return None


def killed_by(code: int) -> str:
    """What ended a process, told by its exit code: `signal 11 (SIGSEGV)`, or a number of Windows; "" if it ended."""
    if sys.platform == "win32":
        code &= 0xFFFFFFFF
        return f"exception {code:#x}" if code >= _KILLED_BY_WINDOWS else ""
    return f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else ""


def end_after(seconds: int) -> None:
    """End this process after a while, whatever native code it is in."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)  # by default it kills
        return
    import faulthandler

    faulthandler.dump_traceback_later(seconds + _LATER_S, exit=True, file=open(os.devnull, "wb"))  # noqa: SIM115  # for good


def limit_memory(size: int) -> None:
    """Take no more memory than so many bytes, and leave no core dump. Windows has no such limits."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if size:
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def memory_of_machine() -> int:
    """Bytes of memory that this machine has; 0 where nobody says."""
    if sys.platform == "win32":
        state = (ctypes.c_uint64 * 8)(64)  # MEMORYSTATUSEX: its size and the load, then what there is of each kind
        return int(state[1]) if _kernel32.GlobalMemoryStatusEx(ctypes.byref(state)) else 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def leaves_folder(path: str) -> bool:
    """Whether a path with slashes leads out of the folder it is joined to by this system's own rules.

    What leaves it by those of all systems (`/etc`, `../a`) is refused where paths are read; on Windows so do `C:a`,
    `..\\a` and `\\\\server\\a`, which are names of files elsewhere.
    """
    if sys.platform != "win32":
        return False
    return bool(PureWindowsPath(path).anchor) or ".." in PureWindowsPath(path).parts


def die_with_parent(parent: int) -> None:
    """The first thing a worker does: let it end when its parent is gone, and leave if that is so already.

    Nobody writes on unsupervised. Linux kills it; elsewhere a thread looks for the parent, and comes to it as soon as
    Python's lock is free.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return
    threading.Thread(target=_end_with(parent), daemon=True).start()


def _end_with(parent: int) -> Callable[[], None]:
    if sys.platform == "win32":
        process = ctypes.c_void_p(_kernel32.OpenProcess(_SYNCHRONIZE, False, parent))

        def wait() -> None:
            if process:
                _kernel32.WaitForSingleObject(process, _FOR_EVER)
            os._exit(1)
    else:

        def wait() -> None:
            while os.getppid() == parent:
                time.sleep(_WATCHED_EVERY_S)
            os._exit(1)

    return wait
