"""The command line: flags in, exit code out; the only place that prints. See README.md here."""

from pipeline.cli.commands import main

__all__ = ["main"]
