"""What an export has in common with the others: where it goes, where it reads, what it tells."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlabels.errors import StoreError
from softlabels.records.shard import ShardRows
from softlabels.storage.unfinished import all_or_nothing
from softlabels.store.reader import StoreReader
from softlabels.threads import in_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """rows: what was written, windows or detections; notes: what its user should know, in sentences."""

    rows: int
    notes: tuple[str, ...] = ()


def require_labels(store: StoreReader) -> None:
    """Raises: StoreError: nothing of it is labelled."""
    if not len(store):
        raise StoreError(f"'{store.storage}': no window is labelled yet; `softlabels run` labels them")


def labelled_shards(store: StoreReader) -> Iterator[tuple[np.ndarray, ShardRows]]:
    """Every shard's rows, and which entry of `store.index` each of them is: (rows,) int64."""
    shards, entries = store.index.by_shard()
    yield from zip(entries, in_threads(store.read_shard, ((shard,) for shard in shards)), strict=True)


def new_output(output: Path) -> AbstractContextManager[Path]:
    """A path beside `output` that becomes it if all goes well. Raises: ValueError: the output is there already."""
    if output.exists():
        raise ValueError(f"'{output}' is there already: delete it first, or name another with -o")
    return all_or_nothing(output)
