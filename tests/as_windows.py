"""Windows, as far as our own files can tell: for a process of its own, before softlabels is imported.

Files of softlabels and pipeline get no fcntl and no resource, and an `os`, a `signal`, a `sys` and a `ctypes` without
what CPython for Windows lacks (read off 3.11 to 3.13); Python itself and all libraries keep theirs. In the process as
a whole, a file that is open or mapped cannot be deleted, renamed or replaced, a rename replaces nothing, and a folder
cannot be opened. Not here: its paths, its console, its processes. Wants Linux's /proc.
"""

import builtins
import ctypes
import fcntl
import os
import signal
import sys
import types
from collections.abc import Callable
from typing import Any


def words(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


MODULES = words("fcntl resource pwd grp termios tty pty posix syslog curses readline _posixsubprocess")
OS = words(
    "O_ACCMODE O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_LARGEFILE O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK",
    "O_PATH O_RSYNC O_SYNC O_TMPFILE RTLD_GLOBAL RTLD_LOCAL RTLD_NOW SCHED_BATCH SEEK_DATA SEEK_HOLE WCOREDUMP",
    "WEXITSTATUS WIFEXITED WIFSIGNALED WIFSTOPPED WNOHANG WSTOPSIG WTERMSIG WUNTRACED chown chroot confstr",
    "copy_file_range ctermid environb eventfd fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs fwalk",
    "get_blocking getegid getenvb geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority",
    "getrandom getresgid getresuid getsid getuid getxattr initgroups killpg lchmod lchown listxattr lockf login_tty",
    "major makedev memfd_create minor mkfifo mknod nice openpty pathconf pidfd_open pipe2 posix_fadvise",
    "posix_fallocate posix_spawn posix_spawnp pread preadv pwrite pwritev readv register_at_fork removexattr",
    "sched_getaffinity sched_getscheduler sched_setaffinity sched_setscheduler sched_yield sendfile set_blocking",
    "setegid seteuid setgid setgroups setpgid setpgrp setpriority setsid setuid setxattr spawnlp spawnvp splice",
    "statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev",
)
SIGNAL = words(
    "ITIMER_REAL SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGSYS SIGTRAP",
    "SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIG_BLOCK SIG_SETMASK",
    "SIG_UNBLOCK alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigtimedwait",
    "sigwait sigwaitinfo",
)


class Seen(types.ModuleType):
    """A module without some of its names, and with others."""

    def __init__(self, module: types.ModuleType, missing: frozenset[str] = frozenset(), **other: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(_module=module, _missing=missing, **other)
        for name in ("__doc__", "__loader__", "__spec__", "__package__"):
            self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._module, name)


class Kernel32:
    """The few calls that are ours, by Linux's own locks."""

    error = 0

    class OpenProcess:
        restype: object = None

    def LockFileEx(self, handle: ctypes.c_void_p, flags: int, *_: object) -> int:
        how = (fcntl.LOCK_EX if flags & 2 else fcntl.LOCK_SH) | (fcntl.LOCK_NB if flags & 1 else 0)
        try:
            fcntl.flock(handle.value, how)
        except BlockingIOError:
            Kernel32.error = 33
        return not Kernel32.error

    def GlobalMemoryStatusEx(self, state: Any) -> int:
        state._obj[1] = 16 << 30
        return 1


def _c_library(name: str | None, **_: object) -> ctypes.CDLL:
    if name is None:
        raise TypeError("LoadLibrary() argument 1 must be str, not None")
    return ctypes.CDLL("libc.so.6")


def _in_use(path: Any) -> bool:
    """Whether this process has a file open or mapped, or one below a folder."""
    path = os.path.realpath(os.fspath(path))
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the one that lists
            continue
    with open("/proc/self/maps", encoding="utf-8") as maps:
        found += [line.split(maxsplit=5)[-1].strip() for line in maps if "/" in line]
    return any(each == path or each.startswith(f"{path}/") for each in found)


def _refused_in_use(function: Callable) -> Callable:
    def changed(path: Any, *rest: Any, **how: Any) -> Any:
        targets = rest[:1] if function.__name__ in ("rename", "replace") else ()
        if not how.get("dir_fd") and any(os.path.exists(each) and _in_use(each) for each in (path, *targets)):
            raise PermissionError(13, "used by another process", str(path))
        if function.__name__ == "rename" and os.path.exists(targets[0]):
            raise FileExistsError(17, "file exists", str(path))
        return function(path, *rest, **how)

    return changed


def _open_file(path: Any, flags: int, *rest: Any, **how: Any) -> int:
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return os.open(path, flags, *rest, **how)


def pretend() -> None:
    """Begin."""
    for name in ("unlink", "remove", "rename", "replace", "rmdir"):
        setattr(os, name, _refused_in_use(getattr(os, name)))
    kernel32 = Kernel32()
    windows = {
        "os": Seen(os, OS, name="nt", open=_open_file, O_BINARY=0),
        "sys": Seen(sys, platform="win32"),
        "signal": Seen(signal, SIGNAL, SIGBREAK=signal.SIGUSR2),
        "ctypes": Seen(
            ctypes,
            CDLL=_c_library,
            WinDLL=lambda *_, **__: kernel32,
            WinError=OSError,
            get_last_error=lambda: Kernel32.error,
        ),
        "msvcrt": types.SimpleNamespace(get_osfhandle=lambda number: number),
    }
    real_import = builtins.__import__

    def their_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if str((globals or {}).get("__name__")).partition(".")[0] in ("softlabels", "pipeline") and not level:
            if name in MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in windows:
                return windows[name]
        return real_import(name, globals, locals, fromlist, level)

    builtins.__import__ = their_import
