"""Where the clips of a new manifest come from: folders, a metadata table or Raven tables; and their splits."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.drafts.folder import FoundClips, clips_of_folder
from pipeline.drafts.groups import GROUP, grouped_by, with_folder_groups
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

    @property
    def prefix(self) -> PurePosixPath:
        """The folder as the paths of a manifest begin with it."""
        return PurePosixPath(self.folder.resolve().relative_to(self.root.resolve()).as_posix())

    def read(self, *, split: str | None = None, seed: int = 0, group: str | None = None) -> FoundClips:
        """The clips; with `split`, such as "train=0.8,test=0.2", divided.

        Args:
          group: clips that stay in one split: the level of a folder below `folder`, such as "1", or a column of
            `metadata`. They get the column `group`.
        Raises: ValueError: a split that is none, or beside the table's own; a group that the source does not have.
          ManifestError: see the sources.
        """
        shares = parse_shares(split) if split else {}
        found = self._read(group)
        if not shares:
            return found
        if any(clip.split for clip in found.clips):
            raise ValueError("--split: expected no other splits, got --column split=... too; leave one of them out")
        clips = split_clips(found.clips, shares, seed=seed, group_of=grouped_by(GROUP))
        counts = Counter(clip.split for clip in clips)
        remarks = [f"split {name}: {counts[name]:,} clips" for name in shares]
        return dataclasses.replace(found, clips=clips, remarks=(*found.remarks, *remarks))

    def _read(self, group: str | None) -> FoundClips:
        level = int(group) if group and group.isdecimal() else 0
        if group and not level and not self.metadata:
            raise ValueError(
                f"--group: expected the level of a folder such as 1, or a column of --metadata, got {group!r}"
            )
        if self.metadata:
            column = None if level else group
            found = clips_of_metadata(
                self.metadata, self.folder, relative_to=self.root, columns=self.columns, group=column
            )
        elif self.raven:
            label = self.columns.get("label")
            found = clips_of_tables(self.raven, self.folder, relative_to=self.root, label_column=label)
        else:
            found = clips_of_folder(self.folder, relative_to=self.root, unlabelled=self.unlabelled)
        clips = with_folder_groups(found.clips, self.prefix, level) if level else found.clips
        return dataclasses.replace(found, clips=clips)


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """`label=primary_label` and so on as a mapping. Raises: ValueError: without a name, a '=' or a column."""
    columns: dict[str, str] = {}
    for text in texts:
        name, column = (part.strip() for part in text.partition("=")[::2])
        if not (name and column) or name in columns:
            raise ValueError(f"--column: expected NAME=COLUMN, each name once, got {', '.join(texts)}")
        columns[name] = column
    return columns
