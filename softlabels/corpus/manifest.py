"""`data_manifest.csv`: one row a clip. Every row is checked; all faults are reported together.

column            meaning
clip_id           unique text; `007` is not `7`
path              audio file, relative to the manifest's folder (or the audio root); may not leave it
label             class names joined by `;`; empty = not annotated; `noise` = annotated as none of the classes;
                  `?Name` = may be in it: neither present nor absent (NaN); all other classes are absent;
                  `-Name` alone = this class is absent, and nothing is known of the others
split, fold       text of your own, such as train / test
start_s, end_s    the stretch of the file that is the clip, in seconds; empty = from its start / to its end
sha256            of the file, checked when given
any other         yours: kept as it stands, see `Clip.extra`; a misspelt one is refused, one without a name passed over
"""

import logging
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from softlabels.corpus.label_cell import LabelCell, check_names, read_label, read_name, read_seconds
from softlabels.corpus.name_lists import CellFault
from softlabels.digests import is_sha256
from softlabels.errors import ManifestError
from softlabels.storage.unfinished import text_file
from softlabels.tables import meant_by, open_table, raise_faults, write_rows
from softlabels.texts import MAX_PATH, fault_of_name, shortened

REQUIRED = ("clip_id", "path")
OPTIONAL = ("label", "split", "fold", "start_s", "end_s", "sha256")
COLUMNS = REQUIRED + OPTIONAL
MAX_CELL = 100_000
_OTHER_WORDS = {"species": "label", "class": "label", "annotation": "label", "begin": "start_s", "start": "start_s"}
_OTHER_WORDS |= {"onset": "start_s", "end": "end_s", "stop": "end_s", "offset": "end_s"}  # what they may stand for
_NOT_ANNOTATED = LabelCell()
_READERS: dict[str, Callable[[str], Any]] = {"label": read_label, "split": read_name, "fold": read_name}
_READERS |= {column: partial(read_seconds, column=column) for column in ("start_s", "end_s")}
logger = logging.getLogger(__name__)
_ID, _PATH = "text without control characters as clip_id", "a path without control characters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One manifest row: a stretch of one audio file.

    labels: the annotated class names; () = annotated as none of the classes; None = not annotated.
    unsure: class names that are neither present nor absent, of an annotated clip: recordists' secondary species.
    absent: class names that are surely not there; of a clip with labels all others are absent anyway.
    end_s: None means to the end of the file.
    extra: (column, text) of the columns of your own, in their order.
    """

    clip_id: str
    path: str
    labels: tuple[str, ...] | None = None
    unsure: tuple[str, ...] = ()
    split: str = ""
    fold: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    sha256: str = ""
    absent: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()


def read_manifest(path: str | Path) -> list[Clip]:
    """Read and check a manifest (UTF-8 CSV; a byte-order mark and CRLF are fine).

    Returns: the clips in the order of the rows.
    Raises: ManifestError: no such file, not a CSV of text, a missing or misspelt column, or faulty rows, of
      which the first ten are shown with their line numbers and the rest are counted.
    Example:
      >>> softlabels.read_manifest("data_manifest.csv")[1].labels
      ('Bus bus_Beta', 'Cus cus_Gamma')
    """
    if not Path(path).exists():
        raise ManifestError(
            f"manifest '{path}': no such file; `softlabels manifest DIR` writes one from a folder of recordings"
        )
    with open_table(path, "manifest", ManifestError, ours=True) as table:
        own = table.own_columns(REQUIRED, OPTIONAL, f"manifest '{path}'", ManifestError)
        for column, meant in _suspects(own, set(OPTIONAL).difference(table.columns)):
            logger.warning("manifest '%s': column %r is kept and not read; is it %r?", path, column, meant)
        clips: list[Clip] = []
        seen: dict[str, int] = {}  # clip_id in Unicode NFC -> line
        for line, row in table:
            clip, wrong = _read_row(row, own)
            if clip.clip_id in seen:
                wrong.append(f"same clip_id as line {seen[clip.clip_id]}")
            seen.setdefault(clip.clip_id, line)
            table.faults += [f"line {line}: clip_id {shortened(clip.clip_id)!r}: {what}" for what in wrong]
            clips.append(clip)
    raise_faults(f"manifest '{path}'", table.faults, ManifestError)
    if not clips:
        raise ManifestError(f"manifest '{path}': expected at least one row, got only the header")
    return clips


def write_manifest(clips: Iterable[Clip], path: str | Path) -> None:
    """Write clips as a manifest that `read_manifest` reads back equal; only the columns in use are written.

    Raises: ManifestError: a name that no manifest can hold; nothing is written. StorageFullError: no room; an older
      manifest is intact.
    Example:
      >>> softlabels.write_manifest([softlabels.Clip(clip_id="a", path="a.wav", labels=("Bus bus_Beta",))], "new.csv")
      >>> len(softlabels.read_manifest("new.csv"))
      1
    """
    clips = check_names_of(list(clips), f"'{path}'")
    rows = [cells_of(clip) for clip in clips]
    own = dict.fromkeys(column for clip in clips for column, _ in clip.extra)
    used = {column for row in rows for column, cell in row.items() if cell}
    used |= {"label", *REQUIRED, *(meant_by(name, (), OPTIONAL) for name in own)}  # a `splits` beside it is read again
    columns = [*(column for column in COLUMNS if column in used), *own]
    with text_file(path) as file:
        write_rows(file, columns, ([row.get(column, "") for column in columns] for row in rows))


def cells_of(clip: Clip) -> dict[str, str]:
    """The cells of a row, by column."""
    texts = {name: getattr(clip, name) for name in ("clip_id", "path", "split", "fold", "sha256")}
    times = {"start_s": clip.start_s or None, "end_s": clip.end_s}
    label = LabelCell(clip.labels, clip.unsure, clip.absent).text()
    cells = {**texts, **{name: "" if s is None else repr(s) for name, s in times.items()}, "label": label}
    return {**dict(clip.extra), **cells}


def check_names_of(clips: list[Clip], where: str) -> list[Clip]:
    """The clips, none of which has a name that no manifest can hold.

    Raises: ManifestError: of a file whose name is not UTF-8, or holds control characters; all are counted.
    """
    faults = []
    for clip in clips:
        wrong = [fault_of_name(clip.clip_id, _ID, MAX_PATH), fault_of_name(clip.path, _PATH, MAX_PATH)]
        wrong += [fault_of_name(name) for name in (clip.split, clip.fold) if name]
        try:
            check_names([*(clip.labels or ()), *clip.unsure, *clip.absent])
        except CellFault as e:
            wrong.append(str(e))
        faults += [f"'{shortened(clip.path)}': {fault}" for fault in wrong if fault][:1]
    for name, cell in {pair for clip in clips for pair in clip.extra}:
        if name != name.strip() or not name or meant_by(name, COLUMNS, ()):
            faults.append(f"column {name!r}: expected the name of a column of your own")
        if any("\ud800" <= c <= "\udfff" for c in name + cell) or len(cell) > MAX_CELL:
            faults.append(f"column {name!r}: expected text of at most {MAX_CELL:,} characters, got {shortened(cell)!r}")
    raise_faults(where, faults, ManifestError, do="rename these files or classes, then run again")
    return clips


def _suspects(own: list[str], lacking: set[str]) -> Iterator[tuple[str, str]]:
    """Columns that may be what another word means, each with that."""
    for column in own:
        for word in re.findall("[a-z]+", column.lower()):
            if _OTHER_WORDS.get(word, "") in lacking:
                yield column, _OTHER_WORDS[word]


def _read_row(row: dict[str, str], own: list[str]) -> tuple[Clip, list[str]]:
    """A clip and what is wrong with it."""
    clip_id, path, faults = row["clip_id"], row["path"], []
    if not clip_id.isascii():
        clip_id = unicodedata.normalize("NFC", clip_id)
    if wrong := fault_of_name(clip_id, _ID, MAX_PATH):
        faults.append(wrong)
    if wrong := fault_of_name(path, _PATH, MAX_PATH):
        faults.append(wrong)
    if path.startswith("/") or (".." in path and ".." in path.split("/")):
        faults.append(
            f"path {shortened(path)!r} leaves the manifest's folder: expected a path below it (or below --root)"
        )
    cells: dict[str, Any] = {"label": _NOT_ANNOTATED, "start_s": 0.0, "end_s": None, "split": "", "fold": ""}
    for column in cells:
        text = row.get(column)
        try:
            if text and text.strip():
                cells[column] = _READERS[column](text)
        except CellFault as e:
            faults.append(str(e))
    label, start_s, end_s, split, fold = cells.values()
    if end_s is not None and end_s <= start_s:
        faults.append(f"expected start_s before end_s, got {start_s:g} and {end_s:g}")
    sha256 = row.get("sha256", "").strip().lower()
    if sha256 and not is_sha256(sha256):
        faults.append(f"expected 64 hexadecimal digits as sha256, got {sha256[:80]!r}")
    clip = Clip(
        clip_id=clip_id,
        path=path,
        labels=label.labels,
        unsure=label.unsure,
        absent=label.absent,
        split=split,
        fold=fold,
        start_s=start_s or 0.0,  # not -0
        end_s=end_s,
        sha256=sha256,
        extra=tuple((column, row[column]) for column in own) if own else (),
    )
    return clip, faults


def end_of(clip: Clip) -> float:
    """Where a clip ends in its file, in seconds; infinity where that is the end of the file."""
    return math.inf if clip.end_s is None else clip.end_s
