"""StoredRows: where in a store the labels of joined rows are."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from softlabels.digests import canonical_json
from softlabels.ragged import places_by_value
from softlabels.store.index import LABELLED
from softlabels.store.reader import StoreReader


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredRows:
    """Where the labels of joined rows are in a store: shard and row in it, (rows,) int32 each; shard -1 is nowhere."""

    shard: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, rows: int, target: np.ndarray, shard: np.ndarray, row: np.ndarray) -> "StoredRows":
        """Of so many joined rows those at target, (n,), are where shard and row say, (n,) each."""
        places = np.full((2, rows), -1, np.int32)
        places[:, target] = shard, row
        return cls(shard=places[0], row=places[1])

    @classmethod
    def find(
        cls, store: StoreReader, clip_ids: list[str], clip_row: np.ndarray, window_index: np.ndarray
    ) -> "StoredRows":
        """Look up windows: (clips,) ids; of each row (rows,) the clip and the window."""
        index = store.index
        first, end = index.spans_of(clip_ids).T
        entry = first[clip_row] + window_index
        there = entry < end[clip_row]
        there[there] = index.state[entry[there]] == LABELLED
        return cls.of(len(entry), np.flatnonzero(there), index.shard[entry[there]], index.row[entry[there]])

    def by_shard(self, of: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Shards, and the joined rows that lie in each; of: (n,) only these rows."""
        of = np.flatnonzero(self.shard >= 0) if of is None else of
        shards, places = places_by_value(self.shard[of])
        return ((int(shard), of[here]) for shard, here in zip(shards, places, strict=True))

    def digest(self, store: StoreReader, what: list[Any]) -> str:
        """sha256 of what is made of the rows, JSON values, and of where each is, shards by content."""
        digests = {str(shard): store.receipts[shard].digest for shard in np.unique(self.shard).tolist() if shard >= 0}
        total = hashlib.sha256(canonical_json([*what, store.spec.fingerprint(), len(self.shard), digests]))
        for array in (self.shard, self.row):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()
