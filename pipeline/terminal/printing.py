"""What commands print, and how: `name  value` lines and JSON on stdout, progress and advice on stderr.

What is printed comes from file names, class lists and stores of strangers, and goes to a terminal: it is escaped here.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from softlabels.os_errors import explained
from softlabels.texts import Shown, printable

TOLD = logging.getLogger("pipeline.terminal")  # its level says whether people are told anything: --quiet, --verbose
NOISY = "py.warnings", "absl", "tensorflow", "jax", "distributed", "ray", "py4j"  # warn of what no user can mend
LINE_EVERY_S, LINE_COLUMNS = 30.0, 60  # of progress, where stderr is no terminal


@contextmanager
def messages(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Inside the block, how much goes to stderr beside errors: nothing; all of everybody's; or what a user needs."""
    root, levels = logging.getLogger(), {TOLD: logging.ERROR if quiet else logging.INFO}
    handler = _Console(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)
    if verbose:
        levels |= {logging.getLogger(name): logging.DEBUG for name in ("softlabels", "pipeline", TOLD.name)}
    else:
        levels |= {logging.getLogger(name): logging.ERROR for name in NOISY}
    before = {logger: logger.level for logger in levels}
    for logger, level in levels.items():
        logger.setLevel(level)
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        for logger, level in before.items():
            logger.setLevel(level)


class _Console(logging.Handler):
    """What libraries log, told as everything else is."""

    def emit(self, record: logging.LogRecord) -> None:
        _write(EscapingFormatter().format(record))


class EscapingFormatter(logging.Formatter):
    """Of what is logged, on stderr; a traceback keeps its lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable(record.getMessage())
        trace = self.formatException(record.exc_info).split("\n") if record.exc_info and record.exc_info[0] else []
        return "\n".join([text, *map(printable, trace)])


def print_line(*cells: object) -> None:
    """One line on stdout, the cells with tabs between them."""
    print("\t".join(printable(str(cell)) for cell in cells))


def tell(text: str) -> None:
    """One line on stderr, above a bar that goes on; nothing with --quiet."""
    if TOLD.isEnabledFor(logging.INFO):
        _write(printable(text))


def tell_error(name: str, e: Exception) -> None:
    """Why a command did nothing; a list of faults has a line each."""
    text = e.args[0] if e.args and isinstance(e.args[0], Shown) else explained(e)
    _write(f"softlabels {name}: {printable(text)}")
    TOLD.debug("raised here:", exc_info=e)


def tell_end(name: str, text: str) -> None:
    """Why a command ends before its time."""
    ctrl_c = "\n" if sys.stderr.isatty() else ""  # the terminal shows it as ^C
    _write(f"{ctrl_c}softlabels {name}: {text}")


def _write(text: str) -> None:
    if sys.stderr.isatty():
        tqdm.write(text, file=sys.stderr)  # takes a bar away first, and puts it back
    else:
        print(text, file=sys.stderr)


def print_results(as_json: bool, also: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
    """The results of a command: a `name  value` line each, or with --json one object.

    Args:
      also: more fields of the object.
      fields: a mapping is a line each, indented below the field before it.
    """
    if as_json:
        print_json({**fields, **(also or {})})
        return
    lines: list[tuple[str, object]] = []
    for name, value in fields.items():
        lines += [(f"  {k}", v) for k, v in value.items()] if isinstance(value, Mapping) else [(name, value)]
    width = 2 + max(len(name) for name, _ in lines)
    for name, value in lines:
        print_line(f"{name:<{width}}{value}".rstrip())


def named(of: object, *names: str) -> dict[str, Any]:
    """Some attributes, to be printed."""
    return {name: getattr(of, name) for name in names}


def print_json(value: object) -> None:
    """One JSON object, as a person reads it; what a terminal might obey is escaped as JSON does, no number is null."""
    plain = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
    text = json.dumps(plain, indent=2, ensure_ascii="utf" not in (sys.stdout.encoding or "utf-8").lower())
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


class _Lines(tqdm):
    """Progress as a line now and then, where frames on top of each other would be rubbish."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if msg is None:
            text = str(self)
            print(text if len(text) <= LINE_COLUMNS else text.rpartition(", ")[0], file=self.fp, flush=True)
        return False  # nothing stands there that has to be taken away

    def clear(self, nolock: bool = False) -> None:
        pass


def progress_bar(total: int, unit: str, delay: float = 0) -> tqdm:
    """A bar on stderr; lines where that is no terminal."""
    text = f"{{n_fmt}}/{{total_fmt}} {unit}, {{rate_noinv_fmt}}, {{remaining}} left{{postfix}}"
    how: dict[str, Any] = {"total": total, "unit": "", "disable": not TOLD.isEnabledFor(logging.INFO)}
    if sys.stderr.isatty():  # what has no room is cut off at the end
        return tqdm(**how, bar_format=f"{text} |{{bar}}|", delay=delay, dynamic_ncols=True, leave=False)
    return _Lines(**how, bar_format=text, delay=LINE_EVERY_S, mininterval=LINE_EVERY_S, miniters=1, leave=False)


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar once a job takes a second; what it gives is called with the number of things just done."""
    with progress_bar(total, unit, delay=1) as bar:

        def on_done(number: int) -> None:
            bar.update(number)

        yield on_done
