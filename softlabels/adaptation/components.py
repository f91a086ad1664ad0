"""Components: the principal components of all that a teacher gave each row, a few dozen numbers instead of thousands.

A teacher of 6,522 classes gives 6,522 log-odds of a window, also of classes that nobody asks about. They have the rank
of its last hidden layer, and tell sounds apart that it has no name for. Components are found without any labels, on a
sample of the rows, and kept beside the joins under the digest of what they were made from.
"""

from pathlib import Path

import numpy as np

from softlabels.classes.class_list import Activation
from softlabels.errors import StoreError
from softlabels.evidence.agreement import one_of_each_stretch, row_blocks
from softlabels.kept.built_once import open_or_build
from softlabels.kept.soft_file import CheckedRows, made_soft_file, open_soft
from softlabels.odds import log_odds
from softlabels.records.shard import ShardRows
from softlabels.store.reader import StoreReader
from softlabels.store.stored_rows import StoredRows
from softlabels.threads import in_threads

VERSION = 2  # its pages have checksums
COMPONENTS = 64
SAMPLE_ROWS, SAMPLE_SHARDS = 8192, 64  # that components are found on
LEAST = 2.0**-40  # a smaller probability counts as this one
_OVERSAMPLED, _ROUNDS = 16, 4  # of the randomised decomposition


def row_components(store: StoreReader, rows: StoredRows, folder: Path) -> CheckedRows:
    """The components of joined rows, kept in `folder`, memory-mapped and read-only.

    Returns: (rows, k) float32, the most varied first, with standard deviations from 1 downwards; NaN where the store
    has no label. k is 64, or less where there is less to tell apart.
    Raises: StoreError: a damaged shard.
    """
    path = folder / f"components-{rows.digest(store, [VERSION, COMPONENTS])}.npy"
    labelled = int(np.count_nonzero(rows.shard >= 0))
    shape = (len(rows.shard), min(COMPONENTS, _width(store), max(1, labelled - 1)))
    return open_or_build(path, lambda: open_soft(path, shape), lambda temporary: _write(temporary, shape, store, rows))


def _write(path: Path, shape: tuple[int, int], store: StoreReader, rows: StoredRows) -> None:
    try:
        mean, basis = find_components(sample_logits(store, rows), shape[1])
    except np.linalg.LinAlgError as e:  # components as large as only somebody who makes them up can have them
        raise StoreError(
            f"store '{store.storage}': its rows have no principal components: {e}; `softlabels verify --recompute 1` "
            "finds the shard that was changed"
        ) from e

    def project(shard: int, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = shard_logits(store.read_shard(shard), store.activation, rows.row[here])
        return here, (logits - mean) @ basis  # (n, k)

    with made_soft_file(path, shape) as made:
        silent = np.flatnonzero(rows.shard < 0)
        made.write_rows(silent, np.full((len(silent), shape[1]), np.nan, np.float32))
        for here, values in in_threads(project, rows.by_shard()):
            made.write_rows(here, values)


def _width(store: StoreReader) -> int:
    return len(store.classes) + store.spec.components


def shard_logits(rows: ShardRows, activation: Activation, some: np.ndarray) -> np.ndarray:
    """All that a shard holds of some rows, (n, width) float32: logits, and the components beside kept classes."""
    p = rows.probabilities[some]
    logits = np.log(np.maximum(p, LEAST)) if activation == "softmax" else log_odds(p, least=LEAST)
    return logits if rows.components is None else np.concatenate([logits, rows.components[some]], axis=1)


def sample_logits(store: StoreReader, rows: StoredRows) -> np.ndarray:
    """(n, width) float32 of up to 8,192 rows of 64 shards, of more where shards are small, drawn over all of them."""
    labelled = rows.shard[rows.shard >= 0]
    shards = np.unique(labelled)
    enough = -(-SAMPLE_ROWS * len(shards) // max(1, len(labelled)))  # shards, at the rows that they have on average
    shards = one_of_each_stretch(shards, max(SAMPLE_SHARDS, enough))
    drawn = one_of_each_stretch(np.flatnonzero(np.isin(rows.shard, shards)), SAMPLE_ROWS)

    def read(shard: int, here: np.ndarray) -> np.ndarray:
        return shard_logits(store.read_shard(shard), store.activation, rows.row[here])

    return np.concatenate(list(in_threads(read, rows.by_shard(drawn))))


def find_components(logits: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of (n, width) float32, which is overwritten.

    Half whitened: a component is divided by the root of its standard deviation, and by that of the first, so that later
    ones say less, but not as much less as they vary. Tried on other songs: as they vary, and all alike, were worse.
    Returns: the mean (width,) and the basis (width, count), float32; components are (x - mean) @ basis.
    Source: Halko, Martinsson, Tropp 2011, arXiv:0909.4061, algorithm 4.4.
    """
    mean = logits.mean(axis=0, dtype=np.float64).astype(np.float32)
    for block in row_blocks(len(logits), logits.shape[1]):
        logits[block] -= mean
    rng = np.random.default_rng(0)
    found = logits @ rng.standard_normal((logits.shape[1], count + _OVERSAMPLED), np.float32)
    for _ in range(_ROUNDS):
        found = logits @ (logits.T @ np.linalg.qr(found)[0])
    _, singular, right = np.linalg.svd(np.linalg.qr(found)[0].T @ logits, full_matrices=False)
    deviation = np.maximum(singular[:count], 1e-6 * singular[0] + 1e-30) / np.sqrt(len(logits))
    return mean, (right[:count].T / np.sqrt(deviation * deviation[0])).astype(np.float32)
