"""Where the clips of a new manifest come from: folders, a metadata table or Raven tables; and their splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.drafts.folder import FoundClips, clips_of_folder
from pipeline.drafts.metadata import clips_of_metadata
from pipeline.drafts.raven import clips_of_tables
from pipeline.drafts.split import parse_shares, split_clips
from pipeline.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """One of the sources: `metadata`, a table; `raven`, a pattern of tables; else the folders' names.

    folder: where the recordings are; root: what their paths are relative to.
    columns: see `clips_of_metadata`; with `raven` only `label`.
    Raises: ValueError: columns that the source does not have.
    """

    folder: Path
    root: Path
    unlabelled: bool = option(False, "leave every clip not annotated")
    metadata: Path | None = option(None, "labels from a table, one row a recording", metavar="CSV")
    raven: str | None = option(None, "labels from Raven selection tables", metavar="GLOB")
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.columns and not self.metadata and not (self.raven and set(self.columns) == {"label"}):
            raise ValueError(
                f"--column: expected --metadata beside it, or --raven beside label=COLUMN, got {dict(self.columns)}"
            )

    def read(self, *, split: str | None = None, seed: int = 0) -> FoundClips:
        """The clips; with `split`, such as "train=0.8,test=0.2", divided.

        Raises: ValueError: a split that is none, or beside the table's own. ManifestError: see the sources.
        """
        shares = parse_shares(split) if split else {}
        found = self._read()
        if not shares:
            return found
        if any(clip.split for clip in found.clips):
            raise ValueError("--split: expected no other splits, got --column split=... too; leave one of them out")
        clips = split_clips(found.clips, shares, seed=seed)
        counts = Counter(clip.split for clip in clips)
        remarks = [f"split {name}: {counts[name]:,} clips" for name in shares]
        return FoundClips(clips=clips, remarks=(*found.remarks, *remarks), problems=found.problems)

    def _read(self) -> FoundClips:
        if self.raven:
            label = self.columns.get("label")
            return clips_of_tables(self.raven, self.folder, relative_to=self.root, label_column=label)
        if not self.metadata:
            return clips_of_folder(self.folder, relative_to=self.root, unlabelled=self.unlabelled)
        return clips_of_metadata(self.metadata, self.folder, relative_to=self.root, columns=self.columns)


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """`label=primary_label` and so on as a mapping. Raises: ValueError: without a name, a '=' or a column."""
    columns: dict[str, str] = {}
    for text in texts:
        name, column = (part.strip() for part in text.partition("=")[::2])
        if not (name and column) or name in columns:
            raise ValueError(f"--column: expected NAME=COLUMN, each name once, got {', '.join(texts)}")
        columns[name] = column
    return columns
