"""Tables of annotations in time, read and checked against the clips of a manifest.

source                   what it says
CSV                      header `clip_id,start_s,end_s,label`; labels joined by `;`
Raven selection tables   tab-separated, with `Begin Time (s)` and `End Time (s)`; one file or one a recording
Audacity label tracks    tab-separated, without a header: start, end, label; one a recording, of its name
extents (CSV)            header `clip_id,start_s,end_s`: stretches in which everything was annotated

All times are seconds in the file, not in the clip. A box labelled `noise` is an extent: nothing of the classes there.
Boxes of no length or without a label are counted and passed over.
"""

import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path, PurePosixPath

import numpy as np

from softlabels.corpus.annotations import BOX, EDGE_S, EXTENT, FLOAT_S, REACH_S, Annotations
from softlabels.corpus.label_cell import no_label, read_label, read_seconds
from softlabels.corpus.manifest import Clip, end_of
from softlabels.corpus.name_lists import CellFault
from softlabels.corpus.raven_times import BEGIN, END, OFFSET, file_times, recording_of
from softlabels.errors import ManifestError
from softlabels.tables import Table, open_table, raise_faults

LABEL_COLUMNS = ("Species", "Species Code", "Annotation", "Label", "Tags", "Call Type")  # Raven's, the first counts
_TABLE_SUFFIX = re.compile(r"(\.table\.\d+)?(\.selections)?\.txt$", re.IGNORECASE)
_RAVEN = (BEGIN, END)
_SECONDS = re.compile(r"\s*\d+([.,]\d+)?\s*")
logger = logging.getLogger(__name__)


def read_annotations(
    source: str | Path | Sequence[str | Path],
    clips: Sequence[Clip],
    *,
    extents: str | Path | None = None,
    label_column: str | None = None,
    duration_of: Callable[[str], float | None] = lambda path: None,
) -> Annotations:
    """Read and check annotations against the clips of a manifest (all of them: an unknown clip is a fault).

    A Raven table names its recording by `Begin File`, `Begin Path`, or its own name, found among the clips by file
    name, then by file stem. A box goes to each clip of that file in which it has 0.5 s, or to the one it overlaps most.

    Args:
      source: a CSV or a Raven table, a pattern such as "tables/*.txt", or several of these.
      clips: the manifest's clips; positions in the result count these.
      extents: a CSV of stretches in which everything was annotated; "clips": all clips that are named in the
        annotations or have a Raven table, from start to end; None: nowhere, so that no label is 0.
      label_column: the column of the labels; None is `label` in a CSV, the first of `LABEL_COLUMNS` in a Raven table.
      duration_of: the seconds of a file, None if unknown; asked where a Raven table over several files needs it.
    Raises: ManifestError: nothing to read, or faulty rows, of which the first ten are shown and the rest counted.
    """
    found = _Found(clips=clips, label_column=label_column, duration_of=duration_of)
    for path in annotation_files(source):
        found.read(path)
    if extents == "clips":
        found.extents += [(clip, 0.0, math.inf) for clip in sorted(found.named)]
    elif extents is not None:
        found.read(Path(extents), only_extents=True)
    if not found.faults and not found.boxes and not found.extents:
        skipped = "".join(f", and {count} {why}" for why, count in found.skipped.items())
        found.faults.append(f"'{source}': expected at least one row, got none{skipped}")
    raise_faults("annotations", found.faults, ManifestError)
    if found.outside:
        logger.warning("annotations: left out %d rows that no clip of the manifest reaches", found.outside)
    merged = _merged(found.extents)
    return Annotations(
        listed_clips=np.array(sorted({each[0] for each in (*found.boxes, *merged)}), np.int64),
        boxes=np.array(found.boxes, BOX),
        extents=np.array(merged, EXTENT),
        outside=found.outside,
        notes=tuple(f"annotations: {count} boxes {why} are passed over" for why, count in found.skipped.items()),
    )


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the tables hold so far; boxes and extents as in `BOX` and `EXTENT`."""

    clips: Sequence[Clip]
    label_column: str | None
    duration_of: Callable[[str], float | None]
    skipped: Counter[str] = field(default_factory=Counter)
    boxes: list[tuple[int, float, float, str, str]] = field(default_factory=list)
    extents: list[tuple[int, float, float]] = field(default_factory=list)
    named: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    outside: int = 0
    by_id: dict[str, int] = field(init=False)
    by_name: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # file name or stem -> path -> clips

    def __post_init__(self) -> None:
        self.by_id = {clip.clip_id: i for i, clip in enumerate(self.clips)}
        for i, clip in enumerate(self.clips):
            path = PurePosixPath(unicodedata.normalize("NFC", clip.path))
            for name in {path.name, f"{path.stem}/"}:  # a slash is in no file name: it marks the stems
                self.by_name.setdefault(name, {}).setdefault(str(path), []).append(i)

    def read(self, path: Path, *, only_extents: bool = False) -> None:
        """Take in one table; what is wrong with it is collected."""
        try:
            with open_table(path, "annotations", ManifestError, tabs=True) as table:
                first = _label_track(table)
                table.columns = [name.casefold() for name in table.columns]
                raven = set(_RAVEN) <= set(table.columns) and not only_extents
                label = None if only_extents else self._label_column(table, raven)
                missing = sorted({"clip_id", "start_s", "end_s"} - set(table.columns))
                if missing and not raven:
                    raise CellFault(f"column {missing[0]!r} is missing, got {table.header()}")
                rows = list(table) if not first else _of_label_track([*first, *table])
            if raven and not rows:
                self.named.update(self._clips_of_file(_TABLE_SUFFIX.sub("", path.name), exact=True))
            rows = list(_one_a_selection(rows))
            times = self._file_times(rows) if raven else [None] * len(rows)
        except (CellFault, ManifestError) as e:
            self.faults.append(str(e) if isinstance(e, ManifestError) else f"'{path}': {e}")
            return
        self.faults += [f"'{path}' {fault}" for fault in table.faults]
        for (line, row), time in zip(rows, times, strict=True):
            where = f"'{path}' line {line}"
            try:
                if raven and label:
                    self._add_raven_row(row, time, label, path, where)
                else:
                    self._add_csv_row(row, label, where)
            except CellFault as e:
                self.faults.append(f"{where}: {e}")

    def _label_column(self, table: Table, raven: bool) -> str:
        wanted = (self.label_column,) if self.label_column else LABEL_COLUMNS if raven else ("label",)
        for name in wanted:
            if name.casefold() in table.columns:
                return name.casefold()
        raise CellFault(
            f"expected a column of labels named {' or '.join(map(repr, wanted))}, or a Raven table, got "
            f"{table.header()}; name it by `label_column`"
        )

    def _add_csv_row(self, row: dict[str, str], label: str | None, where: str) -> None:
        """A box, or an extent where there is no label column."""
        clip = self.by_id.get(unicodedata.normalize("NFC", row["clip_id"]))
        if clip is None:
            raise CellFault(f"clip_id {row['clip_id']!r} is not in the manifest")
        start_s, end_s = _stretch(row["start_s"], row["end_s"])
        if self._skips(start_s, end_s, label and row[label]):
            self.named.update([clip] if label else [])
            return
        if self._overlap(clip, start_s, end_s) <= 0:
            whole = self.clips[clip]
            raise CellFault(
                f"{start_s:g} to {end_s:g} s lies outside clip {whole.clip_id!r}, {whole.start_s:g} to "
                f"{'the end' if whole.end_s is None else f'{whole.end_s:g} s'} of its file; times count in the file"
            )
        if label is None:
            self.extents.append((clip, start_s, end_s))
        else:
            self._add_box([clip], start_s, end_s, row[label], where)
            self.named.add(clip)

    def _file_times(self, rows: Sequence[tuple[int, dict[str, str]]]) -> list[tuple[float, float] | None]:
        def path_of(name: str) -> str:
            return self.clips[self._clips_of_file(name, exact=False)[0]].path

        return file_times(rows, [clip.path for clip in self.clips], path_of, self.duration_of)

    def _add_raven_row(
        self, row: dict[str, str], time: tuple[float, float] | None, label: str, path: Path, where: str
    ) -> None:
        recording = recording_of(row)
        clips = self._clips_of_file(recording or _TABLE_SUFFIX.sub("", path.name), exact=not recording)
        start_s, end_s = _stretch(*(row[name] for name in _RAVEN))
        read_seconds(row.get(OFFSET) or "0")
        self.named.update(clips)
        if self._skips(start_s, end_s, row[label]):
            return
        start_s, end_s = time or (start_s, end_s)
        overlaps = {clip: self._overlap(clip, start_s, end_s) for clip in clips}
        best = max(overlaps, key=overlaps.__getitem__)
        within = [clip for clip in clips if overlaps[clip] >= REACH_S - FLOAT_S] or [best]
        if overlaps[best] <= 0:
            self.outside += 1
            within = []
        self._add_box(within, start_s, end_s, row[label], where)

    def _skips(self, start_s: float, end_s: float, label: str | None) -> bool:
        """Whether a box is of no length or has no label; counted. label: None for an extent."""
        why = (
            "of no length" if start_s == end_s else "without a label" if label is not None and not label.strip() else ""
        )
        self.skipped.update([why] if why else [])
        return bool(why)

    def _add_box(self, clips: list[int], start_s: float, end_s: float, text: str, where: str) -> None:
        label = read_label(text)
        if label.labels is None or label.unsure:  # a box says what is in it, or is none
            raise no_label(text)
        if not label.labels:
            self.extents += [(clip, start_s, end_s) for clip in clips]
        self.boxes += [(clip, start_s, end_s, name, where) for clip in clips for name in label.labels]

    def _clips_of_file(self, name: str, *, exact: bool) -> list[int]:
        """The clips of a recording. exact: no file extension to leave away, the name stands in none."""
        name = unicodedata.normalize("NFC", name)
        stem = name if exact else PurePosixPath(name).stem
        paths = next((self.by_name[k] for k in (name, f"{name}/", f"{stem}/") if k in self.by_name), {})
        if len(paths) != 1:
            got = f"several: {', '.join(sorted(paths)[:10])}" if paths else "none"
            raise CellFault(f"expected one file of the manifest for the recording {name!r}, got {got}")
        return next(iter(paths.values()))

    def _overlap(self, clip: int, start_s: float, end_s: float) -> float:
        whole = self.clips[clip]
        return min(end_s, end_of(whole)) - max(start_s, whole.start_s)


def annotation_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of a path, a pattern or several, in order.

    Raises: ManifestError: nothing there.
    """
    files: list[Path] = []
    for each in [source] if isinstance(source, (str, Path)) else source:
        matched = [each] if Path(each).exists() else sorted(glob(str(each), recursive=True))
        if not matched:
            raise ManifestError(f"annotations '{each}': no such file, and no file matches it as a pattern")
        files += map(Path, matched)
    if not files:
        raise ValueError("annotations: expected a file, a pattern or several, got an empty list")
    return files


def _label_track(table: Table) -> list[tuple[int, dict[str, str]]]:
    """The first row of an Audacity label track, whose columns get Raven's names; nothing of a table with a header."""
    first = table.columns
    if len(first) not in (2, 3) or not all(map(_SECONDS.fullmatch, first[:2])):
        return []
    table.columns = [BEGIN, END, "label"][: len(first)]
    return [(1, dict(zip(table.columns, first, strict=True)))]


def _of_label_track(rows: Iterable[tuple[int, dict[str, str]]]) -> list[tuple[int, dict[str, str]]]:
    """Without the rows that give a label's frequencies, and with points for decimal commas."""
    times = (BEGIN, END)
    kept = ((line, row) for line, row in rows if row[BEGIN] != "\\")
    return [(line, {**row, **{name: row[name].replace(",", ".") for name in times}}) for line, row in kept]


def _one_a_selection(rows: Iterable[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Leave out the rows of a selection's further views: same number, times and file (glued tables repeat numbers)."""
    seen = set()
    for line, row in rows:
        key = tuple(row.get(name) for name in ("selection", *_RAVEN, "begin file", "begin path", OFFSET))
        if not row.get("selection") or key not in seen:
            yield line, row
        seen.add(key)


def _stretch(start: str, end: str) -> tuple[float, float]:
    start_s, end_s = read_seconds(start), read_seconds(end)
    if end_s < start_s:
        raise CellFault(f"expected a start before the end, got {start_s:g} and {end_s:g} s")
    return start_s, end_s


def _merged(extents: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """The same stretches, sorted, without overlaps and without gaps too short to matter."""
    merged: list[tuple[int, float, float]] = []
    for clip, start_s, end_s in sorted(extents):
        if merged and merged[-1][0] == clip and start_s <= merged[-1][2] + EDGE_S:
            clip, start_s, before_s = merged.pop()
            end_s = max(before_s, end_s)
        merged.append((clip, start_s, end_s))
    return merged
