"""A manifest as it stands in its file: some cells or rows change, and every other byte stays as a person left it.

Quotes, blanks, line ends, blank lines, a byte-order mark, columns of one's own and the order of all of them stay.
"""

import csv
import dataclasses
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softlabels.corpus.label_cell import LabelCell
from softlabels.corpus.manifest import Clip, cells_of, check_names_of, read_manifest
from softlabels.digests import sha256_of_bytes
from softlabels.errors import ManifestError
from softlabels.storage.unfinished import text_file
from softlabels.tables import row_text, some

_CELL = re.compile(r'("(?:[^"]|"")*"|[^,\r\n]*)(,|\r\n|\r|\n|\Z)')  # as it stands, and what ends it
_LINE_END = re.compile(r"\r\n|\r|\n")
_MARK = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestText:
    """The text of a manifest, cut into its rows.

    mark: the byte-order mark, or "". header, rows: as they stand, with their line ends and the blank lines after them.
    clips: what the rows say, one each. digest: of the file's bytes.
    """

    path: Path
    mark: str
    header: str
    rows: Sequence[str]
    clips: Sequence[Clip]
    digest: str

    @classmethod
    def read(cls, path: str | Path) -> "ManifestText":
        """Raises: ManifestError: as `read_manifest`; or somebody wrote the file while it was read."""
        clips = read_manifest(path)
        data = Path(path).read_bytes()
        text = data.decode(errors="replace")
        mark = _MARK * text.startswith(_MARK)
        header, *rows = _records(text.removeprefix(mark))
        if len(rows) != len(clips):
            raise _changed(path)
        return cls(path=Path(path), mark=mark, header=header, rows=rows, clips=clips, digest=sha256_of_bytes(data))

    @property
    def columns(self) -> list[str]:
        return [name.strip() for name in next(csv.reader(io.StringIO(self.header, newline="")), [])]

    def corrected(self, labels: Mapping[str, LabelCell]) -> "ManifestText":
        """The manifest with other labels of some clips, by clip_id; where it has no column `label`, it gets one.

        Raises: ManifestError: clips that it does not have.
        """
        cells = {unicodedata.normalize("NFC", clip_id): cell for clip_id, cell in labels.items()}
        unknown = sorted(cells.keys() - {clip.clip_id for clip in self.clips})
        if unknown:
            raise ManifestError(f"manifest '{self.path}': {len(unknown)} clips are not in it: {some(unknown)}")
        changed = self if "label" in self.columns else self.with_column("label")
        at, rows, clips = changed.columns.index("label"), list(changed.rows), list(self.clips)
        for i, clip in enumerate(clips):
            cell = cells.get(clip.clip_id)
            if cell is not None and cell != LabelCell(clip.labels, clip.unsure, clip.absent):
                rows[i] = _with_cell(rows[i], at, cell.text())
                clips[i] = dataclasses.replace(clip, labels=cell.labels, unsure=cell.unsure, absent=cell.absent)
        return dataclasses.replace(changed, rows=rows, clips=clips)

    def noted(self, column: str, texts: Mapping[str, str]) -> "ManifestText":
        """The same with a column of one's own, which it gets where it has none: texts of some clips, by clip_id."""
        changed = self if column in self.columns else self.with_column(column)
        at, rows, clips = changed.columns.index(column), list(changed.rows), list(self.clips)
        for i, clip in enumerate(clips):
            if clip.clip_id in texts:
                rows[i] = _with_cell(rows[i], at, texts[clip.clip_id])
                extra = {**dict(clip.extra), column: texts[clip.clip_id]}
                clips[i] = dataclasses.replace(clip, extra=tuple(extra.items()))
        return dataclasses.replace(changed, rows=rows, clips=clips)

    def with_column(self, name: str) -> "ManifestText":
        """The manifest with one more column, the last, which is empty."""
        at = len(self.columns)
        rows = [_with_cell(row, at, "") for row in self.rows]
        return dataclasses.replace(self, header=_with_cell(self.header, at, name), rows=rows)

    def with_texts(self, column: str, texts: Mapping[int, str]) -> "ManifestText":
        """The manifest with other texts in some rows of `path`, `split` or a column of one's own, which it may get."""
        clips = list(self.clips)
        for i, text in texts.items():
            own: dict[str, Any] = {"extra": tuple({**dict(clips[i].extra), column: text}.items())}
            clips[i] = dataclasses.replace(clips[i], **({column: text} if column in ("path", "split") else own))
        changed = self if column in self.columns else self.with_column(column)
        at = changed.columns.index(column)
        rows = [_with_cell(row, at, texts[i]) if i in texts else row for i, row in enumerate(changed.rows)]
        return dataclasses.replace(changed, rows=rows, clips=clips)

    def without(self, dropped: Set[int]) -> "ManifestText":
        """The manifest without some rows."""
        rows = [row for i, row in enumerate(self.rows) if i not in dropped]
        clips = [clip for i, clip in enumerate(self.clips) if i not in dropped]
        return dataclasses.replace(self, rows=rows, clips=clips)

    def grown(self, new: Sequence[Clip]) -> "ManifestText":
        """The manifest with further rows: in the order of their clip_ids where all stand so, else after the others.

        Raises: ManifestError: a name that no manifest can hold.
        """
        cells = [cells_of(clip) for clip in check_names_of(list(new), f"manifest '{self.path}'")]
        changed = self
        for column in dict.fromkeys(name for row in cells for name, text in row.items() if text):
            changed = changed if column in changed.columns else changed.with_column(column)
        end = _LINE_END.findall(f"{changed.header}\n")[0]
        rows = [row if row.endswith(("\r", "\n")) else row + end for row in changed.rows]
        rows += [row_text(row.get(column, "") for column in changed.columns) + end for row in cells]
        clips = [*changed.clips, *new]
        order = list(range(len(clips)))
        ids = [clip.clip_id for clip in self.clips]
        if ids == sorted(ids):
            order.sort(key=lambda i: clips[i].clip_id)
        return dataclasses.replace(changed, rows=[rows[i] for i in order], clips=[clips[i] for i in order])

    def write(self) -> None:
        """Write it to its place, in full or not at all.

        Raises: ManifestError: somebody else wrote it since it was read. StorageFullError: no room; it is as it was.
        """
        if sha256_of_bytes(self.path.read_bytes()) != self.digest:
            raise _changed(self.path)
        with text_file(self.path) as file:
            file.writelines([self.mark, self.header, *self.rows])


def _changed(path: str | Path) -> ManifestError:
    return ManifestError(f"manifest '{path}': somebody else wrote it meanwhile; run the same command again")


def _records(text: str) -> list[str]:
    """The records of a CSV as they stand; blank ones are part of the one before."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            taken.append(line)
            yield line

    records: list[str] = []
    for fields in csv.reader(lines(), strict=True):
        if records and not any(map(str.strip, fields)):
            records[-1] += "".join(taken)
        else:
            records.append("".join(taken))
        taken.clear()
    return records


def _with_cell(record: str, position: int, text: str) -> str:
    """A record with another text in one of its cells, or in one more after the last."""
    start = end = 0
    for i, cell in enumerate(_CELL.finditer(record)):
        start, end = cell.span(1)
        if i == position:
            return record[:start] + _as_cell(text) + record[end:]
        if cell[2] != ",":
            break
    return f"{record[:end]},{_as_cell(text)}{record[end:]}"


def _as_cell(text: str) -> str:
    return row_text([text, ""]).removesuffix(",")
