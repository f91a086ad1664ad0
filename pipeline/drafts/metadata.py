"""From a metadata table to a manifest: BirdCLEF's `train_metadata.csv`, a list from xeno-canto, or a table of your own.

column     filled from                    where the table does not have it
path       filename, file-name            named with --column: below the folder, as a path, a file name or a stem
label      primary_label                  not annotated
secondary  secondary_labels, also         none; each becomes `?Name`: neither present nor absent
code       primary_label                  see below
split      split, only if named           empty

What fills a column is the name of one of the table's columns, or a text with such names in braces:
`label={gen} {sp}_{en}`. Several names are written as `A;B`, `A|B`, `A,B` or as programs print lists, see
`softlabels/corpus/name_lists.py`. A secondary name that is some row's `code` becomes that row's label, so that
`label={scientific_name}_{common_name}` translates BirdCLEF's codes everywhere.
"""

import contextlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from pipeline.drafts.folder import FoundClips, clips_of_folder
from pipeline.drafts.groups import GROUP
from softlabels.corpus.label_cell import NOISE, check_names
from softlabels.corpus.manifest import Clip
from softlabels.corpus.name_lists import CellFault, read_names
from softlabels.errors import ManifestError
from softlabels.tables import open_table, raise_faults

DEFAULTS = {
    "path": ("filename", "file-name"),
    "label": ("primary_label",),
    "secondary": ("secondary_labels", "also"),
    "code": ("primary_label",),
    "split": (),
}
_BRACES = re.compile(r"\{([^{}]+)\}")
Row = Mapping[str, str]


def clips_of_metadata(
    table: Path,
    folder: Path,
    *,
    relative_to: Path | None = None,
    columns: Mapping[str, str] | None = None,
    group: str | None = None,
) -> FoundClips:
    """One clip a row whose file is there.

    Args:
      table: a UTF-8 CSV with a header; all of it is text.
      folder, relative_to: as in `clips_of_folder`, which also makes the clip_ids.
      columns: what fills which column (see the module) where that is not the default. group: what fills the manifest's
        column of that name, in the same way.
    Raises: ValueError: an unknown column to fill. ManifestError: no such table, a column it does not have, rows that
      cannot be told apart (all faults together), or no row with a file.
    """
    rows = _read_table(table)
    filled = _templates(table, list(rows[0][1]), columns or {}, group)
    scanned = clips_of_folder(folder, relative_to=relative_to, unlabelled=True)
    files = _Files(scanned.clips)
    translated = _codes(rows, filled)
    clips: dict[str, Clip] = {}
    faults, without_file = [], []
    for line, row in rows:
        try:
            named = _fill(filled["path"], row)
            file = files.find(named)
            if file is None:
                without_file.append(f"line {line}: {named!r}")
            elif file.clip_id in clips:
                faults.append(f"line {line}: {file.clip_id!r} has a row before")
            else:
                clips[file.clip_id] = _labelled(file, row, filled, translated)
        except CellFault as e:
            faults.append(f"line {line}: {e}")
    if not clips and not faults:
        faults = [f"expected rows that name files of '{folder}', got none; {without_file[0]} is not there"]
    _raise_faults(table, faults)
    remarks = [f"{len(files.clips) - len(clips):,} files of '{folder}' are in no row and left out"]
    texts = (_fill(filled["label"], row) for _, row in rows)
    commas = [text for text in texts if "," in text and not any(mark in text for mark in ";|\n[{(")]
    if len(files.clips) == len(clips):
        remarks = []
    if commas:
        of_names = f"{len(commas):,} labels with a comma are read as several names, such as {commas[0]!r}"
        remarks.append(f'{of_names}; one name with a comma is written as ["A, B"]')
    problem = f"{len(without_file):,} rows name no file of '{folder}', left out: {'; '.join(without_file[:5])}"
    return FoundClips(
        clips=[clips[clip_id] for clip_id in sorted(clips)],
        remarks=tuple(remarks),
        problems=(*((problem,) if without_file else ()), *scanned.problems),
    )


class _Files:
    """The audio files of a folder, found by path, else by file name, else by stem."""

    def __init__(self, clips: Iterable[Clip]) -> None:
        self.clips = {clip.clip_id: clip for clip in clips}
        self.by_name: dict[str, list[Clip]] = defaultdict(list)
        for clip_id, clip in self.clips.items():
            path = PurePosixPath(clip_id)
            for name in {path.name, f"{path.stem}/"}:  # a slash is in no file name: it marks the stems
                self.by_name[name].append(clip)

    def find(self, named: str) -> Clip | None:
        """Raises: CellFault: several files have this name."""
        named = unicodedata.normalize("NFC", named.strip()).removeprefix("./")
        if not named or named in self.clips:
            return self.clips.get(named)
        if "/" in named:  # a path says where; the same name elsewhere is another recording
            return None
        found = next((self.by_name[name] for name in (named, f"{named}/") if name in self.by_name), [])
        if len(found) > 1:
            listed = ", ".join(sorted(clip.clip_id for clip in found)[:5])
            raise CellFault(f"{named!r} is the name of {len(found)} files: {listed}; give their paths")
        return found[0] if found else None


def _read_table(path: Path) -> list[tuple[int, Row]]:
    """(line, column -> text) of every row."""
    with open_table(path, "metadata", ManifestError) as table:
        faults = [f"line 1: column {name!r} is given twice" for name in table.twice()]
        rows: list[tuple[int, Row]] = list(table)
    faults += table.faults
    if not rows and not faults:
        faults = ["expected a header and at least one row, got none"]
    _raise_faults(path, faults)
    return rows


def _templates(table: Path, header: list[str], columns: Mapping[str, str], group: str | None) -> dict[str, str]:
    """column to fill -> text with the table's columns in braces; "" where nothing fills it."""
    unknown = sorted(columns.keys() - DEFAULTS.keys())
    if unknown:
        raise ValueError(f"--column: expected one of {', '.join(DEFAULTS)} before the '=', got {unknown[0]!r}")
    filled, wanted = {}, {**columns, GROUP: group}
    for name, usual in {**DEFAULTS, GROUP: ()}.items():
        given = wanted.get(name) or next((column for column in usual if column in header), "")
        filled[name] = f"{{{given}}}" if given and not _BRACES.search(given) else given
        lacking = [column for column in _BRACES.findall(filled[name]) if column not in header]
        if lacking or (name == "path" and not given):
            what = f"a column {lacking[0]!r}" if lacking else "a column filename or file-name, or --column path=..."
            raise ManifestError(f"metadata '{table}': {name}: expected {what}, got the columns {', '.join(header)}")
    return filled


def _fill(template: str, row: Row) -> str:
    """The text of a row; "" where all of its columns are empty: `{gen} {sp}_{en}` would leave "_"."""
    filled = any(row[column].strip() for column in _BRACES.findall(template))
    return _BRACES.sub(lambda found: row[found[1]].strip(), template) if filled else ""


def _codes(rows: list[tuple[int, Row]], filled: Mapping[str, str]) -> dict[str, str]:
    """code -> label, of all rows with one label."""
    translated = {}
    for _, row in rows:
        with contextlib.suppress(CellFault):  # it is reported if the row has a file
            names = _names(_fill(filled["label"], row))
            if len(names) == 1 and names != [NOISE]:
                translated[_fill(filled["code"], row)] = names[0]
    return translated


def _labelled(file: Clip, row: Row, filled: Mapping[str, str], translated: Mapping[str, str]) -> Clip:
    names = _names(_fill(filled["label"], row))
    secondary = [translated.get(name, name) for name in _names(_fill(filled["secondary"], row))]
    labels = tuple(name for name in names if name != NOISE)
    return Clip(
        clip_id=file.clip_id,
        path=file.path,
        labels=labels if names else None,
        unsure=tuple(n for n in dict.fromkeys(secondary) if n not in (*labels, NOISE)) if names else (),
        split=_fill(filled["split"], row),
        extra=((GROUP, _fill(filled[GROUP], row)),) if filled[GROUP] else (),
    )


def _names(text: str) -> list[str]:
    """The class names in a cell, each once. Raises: CellFault."""
    names = read_names(text)
    if NOISE in names and len(names) > 1:
        raise CellFault(f"expected {NOISE!r} only alone, got {text[:80]!r}")
    check_names(names)
    return names


def _raise_faults(table: Path, faults: list[str]) -> None:
    raise_faults(f"metadata '{table}'", faults, ManifestError)
