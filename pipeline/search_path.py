"""Where modules are looked for: ours and those that ours need come first, whatever lies in the user's folders.

Loaded before all else of this package. A `pipeline.py`, `numpy.py` or `queue.py` beside somebody's teacher is nobody's
business; in front, it would be imported in place of ours by every worker that starts.
"""

import os
import sys

if (
    sys.argv[:1] == ["-m"] and not sys.flags.safe_path
):  # `python -m pipeline` is at this point, and has the current folder in front
    sys.path.append(sys.path.pop(0))

OURS = sys.path.copy()  # where this process found this package, and finds numpy

# What a new worker does first, and what it is given as text: it cannot import anything of ours before it has done this.
# `sys.path` is by then what the teacher of the process that started it has made of it. What goes wrong here goes
# wrong again, and is told, with the first call.
START = """
import sys  # in {here!r}: another folder is another worker, for which relative paths are others
now, sys.path[:] = sys.path[:], {ours!r}
try:
    import pipeline.labelling.worker  # and with it what it needs, before any other folder counts
    from softlabels.platforms import die_with_parent
    die_with_parent({parent})
except Exception:
    pass
finally:
    sys.path[:] = now
"""


def start_code() -> str:
    """Code for `exec` in a new process: load this package from where this process has it, and die with this process."""
    return START.format(ours=OURS, parent=os.getpid(), here=(_here(), _identity()))


def look_here_last() -> None:
    """Let modules of the current folder be found, unless they have the name of another: the console script does not."""
    here = _here()
    if here and "" not in sys.path and here not in sys.path:
        sys.path.append(here)


def _identity() -> tuple[int, int]:
    """Of the current folder: another one may have its name by now."""
    found = os.stat(".")
    return found.st_dev, found.st_ino


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody deleted it
        return ""
