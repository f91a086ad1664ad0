"""The command line: flags in, exit code out; each command is in a file of its kind, with its flags and what it prints.

Exit codes: 0 done; 1 problems found; 2 wrong usage or unusable input, nothing labelled; 3 stopped by a
scheduler or a full disk, resumable; 130 interrupted.
"""

import argparse
import contextlib
import logging
import os
import signal
from collections.abc import Iterator

from pipeline.cli.checks import add_compare, add_inspect, add_regenerate, add_verify
from pipeline.cli.flags import check_flags
from pipeline.cli.inputs import add_classes, add_manifest
from pipeline.cli.labelling import add_run
from pipeline.cli.outputs import add_export, add_report
from pipeline.cli.printing import EscapingFormatter, tell, tell_error
from pipeline.cli.streams import lenient_streams
from pipeline.cli.teachers import add_teachers
from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StorageFullError
from softlabels.storage.unfinished import NO_ROOM
from softlabels.texts import Shown


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    if logging.lastResort is not None:  # it prints what the library warns of
        logging.lastResort.setFormatter(EscapingFormatter())
    with safe_path(), lenient_streams() as end_output:
        args = make_parser().parse_args(argv)
        for warning in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(warning, _terminate)
        try:
            check_flags(args)
            code: int = args.action(args)
            end_output()
            return code
        except (StorageFullError, EnvironmentTrouble) as e:
            tell_error(args.name, e)
            return 3
        except (SoftLabelsError, ValueError, OSError) as e:
            tell_error(args.name, e)
            return 3 if isinstance(e, OSError) and e.errno in NO_ROOM else 2
        except Terminated as e:
            tell(Shown(f"\nsoftlabels {args.name}: stopped by {e}; the same command goes on from here"))
            return 3
        except KeyboardInterrupt:
            tell(Shown(f"\nsoftlabels {args.name}: interrupted; the same command goes on from here"))
            return 130


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Let workers not import what lies in the current folder: they start as `python -m`, which else does."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


class Terminated(KeyboardInterrupt):
    """A scheduler's warning; unwinds like Ctrl-C."""


def _terminate(number: int, _frame: object) -> None:
    raise Terminated(signal.Signals(number).name)


def make_parser() -> argparse.ArgumentParser:
    """All commands with their flags; `args.name` is the command that was given, `args.action` what it does."""
    parser = argparse.ArgumentParser(
        prog="softlabels",
        description="Run a teacher over an audio corpus once and keep its soft labels for training students.",
        epilog="Start with `softlabels run`; every command explains itself with --help. Exit codes: 0 done, "
        "1 problems found, 2 wrong usage, 3 stopped by the machine and resumable.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inputs, outputs = (add_manifest, add_classes), (add_export, add_compare)
    for add in (add_run, *inputs, add_teachers, add_inspect, add_report, add_verify, add_regenerate, *outputs):
        add(commands)
    return parser
