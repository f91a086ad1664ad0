"""Embeddings of joined rows: an array of their own beside the join, built from the shards when somebody first asks.

    embedding-<digest>.npy     (rows, width) float16 with checksums, as a soft half (`kept.soft_file`)

It is named by what its bytes depend on: shards by content, and which row of which shard each joined row is. So joins of
other classes share it. A row of NaN has none: the teacher's was not finite, does not fit float16, or there is no label.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from softlabels.digests import is_sha256
from softlabels.errors import JoinError
from softlabels.kept.built_once import open_or_build
from softlabels.kept.soft_file import EMBEDDING, HALF, CheckedRows, made_soft_file, open_soft
from softlabels.labels.reading.crops import CropRows
from softlabels.labels.saved import SavedJoin, said_by
from softlabels.store.embeddings import as_half
from softlabels.store.reader import StoreReader
from softlabels.store.stored_rows import StoredRows
from softlabels.threads import in_threads

logger = logging.getLogger(__name__)
VERSION = 1
_BLOCK = 4096  # rows without a label written at once


def noted_embedding(store: StoreReader, rows: StoredRows) -> dict[str, Any]:
    """What join.json says of the embeddings of a join: nothing where its store has none."""
    if not store.spec.embedding:
        return {}
    noted = {"width": store.spec.embedding, "teacher": store.spec.teacher_digest}
    return {"embedding": {**noted, "rows": rows.digest(store, [EMBEDDING, VERSION])}}


def checked_embedding(saved: SavedJoin) -> dict[str, Any]:
    """What a join notes of its embeddings.

    Raises: JoinError: it has none, its rows are no windows, or several models were averaged.
    """
    with said_by(saved.path):
        noted, windows = saved.header.get("embedding"), saved.header["windows"]
        if isinstance(noted, list):
            noted = _of_several(noted)
        if not noted:
            raise JoinError(
                "embedding: the store that these labels are from has none; `softlabels run --embedding` keeps them, in "
                "another store (-o), since those of one are all alike"
            )
        if windows != "each":
            raise JoinError(f"embedding: windows={windows!r} left no windows; join with windows='each'")
        if type(noted["width"]) is not int or noted["width"] < 1 or not is_sha256(noted["rows"]):
            raise ValueError(f"expected width and rows of an embedding, got {noted}")
        return noted


def _of_several(noted: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Of several stores' the first's, whose rows the join has. Raises: JoinError: they are not one model's."""
    models = {(each["teacher"], each["width"]) if each else None for each in noted}
    if len(models) > 1:
        widths = ", ".join(str(each["width"]) if each else "none" for each in noted)
        raise JoinError(
            "embedding: labels of several stores have one only where all stores have the same model's, got widths of "
            f"{widths}; join the store whose embeddings the student is to learn by itself"
        )
    return noted[0] or {}


def open_embeddings(saved: SavedJoin, store: Callable[[], StoreReader]) -> CheckedRows:
    """The embeddings of a join, (rows, width) float16, memory-mapped and read-only; built where they are not yet.

    Args:
      store: opens the one from which they can be built.
    Raises: JoinError: there are none, or the store has changed. StoreError: a damaged shard.
    """
    noted = checked_embedding(saved)
    shape = (len(saved.arrays), noted["width"])
    if not saved.is_kept:
        if "digest" not in noted:
            raise JoinError(
                f"embedding: the labels in '{saved.path}' were saved without: labels.save(path, embedding=True)"
            )
        kept = open_soft(saved.path / f"{EMBEDDING}.npy", shape, dtype=HALF)
        if kept.digest != noted["digest"]:
            raise JoinError(f"saved join '{saved.path}': '{kept.path}' holds other embeddings; save the labels again")
        return kept
    path = saved.path.parent / f"{EMBEDDING}-{noted['rows']}.npy"
    return open_or_build(
        path,
        lambda: open_soft(path, shape, dtype=HALF),
        lambda part: _write(part, shape, saved, store(), noted["rows"]),
    )


def _write(path: Path, shape: tuple[int, int], saved: SavedJoin, store: StoreReader, digest: str) -> None:
    arrays = saved.arrays
    rows = StoredRows.find(store, arrays.clips["clip_id"].to_pylist(), arrays.clip_row, arrays.window_index)
    if rows.digest(store, [EMBEDDING, VERSION]) != digest:
        raise JoinError(f"embedding: store '{store.storage}' has changed since these labels were joined; join again")

    def read(shard: int, here: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        stored = store.read_shard(shard).columns()["embedding"][rows.row[here]]
        return here, as_half(stored), np.isnan(stored[:, 0])

    odd = missing = 0
    with made_soft_file(path, shape, dtype=HALF) as made:
        silent = np.flatnonzero(rows.shard < 0)
        for some in np.array_split(silent, 1 + len(silent) // _BLOCK):
            made.write_rows(some, np.full((len(some), shape[1]), np.nan, HALF))
        for here, values, not_finite in in_threads(read, rows.by_shard()):
            made.write_rows(here, values)
            odd += int(np.count_nonzero(not_finite))
            missing += int(np.count_nonzero(np.isnan(values[:, 0])))
    if missing:
        what = "embedding: %d of %d rows count as missing: %d are not finite, %d do not fit float16"
        logger.warning(what, missing, shape[0], odd, missing - odd)


def mean_embeddings(crops: CropRows, kept: CheckedRows) -> np.ndarray:
    """Those of crops, (n, width) float16: windows averaged by weight; NaN where one of them has none."""
    total = np.zeros((len(crops.row), kept.shape[1]), np.float32)
    gone = ~crops.covered
    for row, weight in zip(crops.row.T, crops.weight.T, strict=True):
        takes_part = weight > 0
        gone |= takes_part & (row < 0)
        values = kept[np.maximum(row, 0)].astype(np.float32)
        total += np.where(takes_part[:, None], weight[:, None].astype(np.float32) * values, 0)
    total[gone] = np.nan
    return total.astype(HALF)
