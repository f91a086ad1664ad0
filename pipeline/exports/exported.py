"""What an export has in common with the others: where it goes, where it reads, what it tells."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlabels.ahead import in_threads
from softlabels.index import LABELLED
from softlabels.shard import ShardRows
from softlabels.store import SoftLabelStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """rows: what was written, windows or detections; notes: what its user should know, in sentences."""

    rows: int
    notes: tuple[str, ...] = ()


def labelled_shards(store: SoftLabelStore) -> Iterator[tuple[np.ndarray, ShardRows]]:
    """Every shard's rows, and which entry of `store.index` each of them is: (rows,) int64."""
    index = store.index
    labelled = np.flatnonzero(index.state == LABELLED)
    shards, first = np.unique(index.shard[labelled], return_index=True)
    entries = np.split(labelled, first)[1:]  # nothing stands before the first
    yield from zip(entries, in_threads(store.read_shard, ((shard,) for shard in shards.tolist())), strict=True)


@contextmanager
def whole_or_nothing(output: Path) -> Iterator[Path]:
    """A path beside `output`, with the same ending, that becomes it if all goes well, and goes away if not.

    Raises: ValueError: the output is there already.
    """
    if output.exists():
        raise ValueError(f"'{output}' is there already: delete it first, or name another with -o")
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.stem}.tmp-{secrets.token_hex(4)}{output.suffix}")
    try:
        yield unfinished
        unfinished.rename(output)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        unfinished.unlink(missing_ok=True)
