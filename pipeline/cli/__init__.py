"""The command line: flags in, exit code out. See README.md here."""

from pipeline.cli.commands import main

__all__ = ["main"]
