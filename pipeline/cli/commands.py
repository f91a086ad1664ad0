"""The command line: flags in, exit code out; each command is in a file of its kind, with its flags and what it prints.

Exit codes: 0 done; 1 problems found; 2 wrong usage or unusable input, nothing labelled; 3 stopped by a
scheduler or a full disk, resumable; 130 interrupted.
"""

import argparse
import importlib
import re
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import NoReturn

from pipeline.processes import safe_path
from pipeline.terminal.flags import check_flags
from pipeline.terminal.printing import messages, tell_end, tell_error
from pipeline.terminal.streams import lenient_streams, others_silent
from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StorageFullError
from softlabels.platforms import WARNINGS
from softlabels.storage.unfinished import NO_ROOM
from softlabels.texts import printable

COMMANDS = {  # and the file of each, which is loaded when it is needed: a run has no use for what makes reports
    "run": "labelling",
    "manifest": "inputs",
    "classes": "inputs",
    "teachers": "teachers",
    "inspect": "checks",
    "report": "outputs",
    "verify": "checks",
    "regenerate": "checks",
    "export": "outputs",
    "compare": "checks",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    with safe_path(), lenient_streams() as end_output:
        argv = sys.argv[1:] if argv is None else argv
        args = make_parser(only=argv[0] if argv else "").parse_args(argv)
        for warning in WARNINGS:
            signal.signal(warning, _terminate)
        with messages(quiet=args.quiet, verbose=args.verbose), others_silent(verbose=args.verbose):
            return _run_command(args, end_output)


def _run_command(args: argparse.Namespace, end_output: Callable[[], None]) -> int:
    """Its exit code; an error is one line."""
    goes_on = "the same command goes on from here" if args.name == "run" else "the same command begins again"
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
        tell_end(args.name, f"stopped by {e}; {goes_on}")
        return 3
    except KeyboardInterrupt:
        tell_end(args.name, f"interrupted; {goes_on}")
        return 130


class Terminated(KeyboardInterrupt):
    """A scheduler's warning; unwinds like Ctrl-C."""


def _terminate(number: int, _frame: object) -> None:
    raise Terminated(signal.Signals(number).name)


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as all errors are told."""

    def error(self, message: str) -> NoReturn:
        several = "; name one file or folder" if re.search(r"unrecognized arguments: (?!-)", message) else ""
        self.exit(2, f"{self.prog}: {printable(message)}{several}; `{self.prog} --help` explains the flags\n")


def make_parser(only: str = "") -> argparse.ArgumentParser:
    """All commands with their flags, or only one; `args.name` is the one that was given, `args.action` what it does."""
    parser = _Parser(
        prog="softlabels",
        description="Run a teacher over an audio corpus once and keep its soft labels for training students.",
        epilog="Start with `softlabels run`; every command explains itself with --help. Exit codes: 0 done, "
        "1 problems found, 2 wrong usage, 3 stopped by the machine and resumable.",
    )
    parser.add_argument("--version", action="version", version=f"softlabels {version('softlabels')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in [only] if only in COMMANDS else COMMANDS:
        getattr(importlib.import_module(f"pipeline.cli.{COMMANDS[name]}"), f"add_{name}")(commands)
    return parser
