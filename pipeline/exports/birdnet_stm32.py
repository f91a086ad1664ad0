"""The teacher cache of birdnet-stm32: a folder that its training reads in place of a teacher.

file         holds
meta.json    classes (the training order), teacher_mask (one bool a class), teacher_window_s
mapped.npy   (windows, classes) float16: probabilities
starts.npy   (windows,) float32: seconds from the start of the recording
index.npz    of each recording: sample_id (its file stem), row_offset, n_windows
emb.npy      (windows, width) float16: the teacher's embeddings, where the store keeps them

A chunk gets the window whose centre is nearest its own. A row with NaN means "no label", so windows without
one are there as NaN: left out, a neighbour would answer for them.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.exports.written import Exported, labelled_shards
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import ClassMatch
from softlabels.errors import StoreError
from softlabels.ragged import offsets_of
from softlabels.storage.unfinished import allocate, save_array
from softlabels.store.embeddings import as_half
from softlabels.store.index import LABELLED, StoreIndex
from softlabels.store.reader import StoreReader

LONGEST_NAME = 255  # as file systems have it; each recording takes four bytes for each character of the longest
HOP_S = 1.25  # of the grid that birdnet-stm32 expects; its chunks of 2.5 s start anywhere


def write_teacher_cache(
    store: StoreReader, folder: Path, classes: ClassList, match: ClassMatch, on_windows: Callable[[int], None]
) -> Exported:
    """Write the cache; rows are sorted by file stem, then by time.

    Raises: StoreError: two recordings have the same file stem, by which the cache knows them.
    """
    index = store.index
    stems, recording = _recordings(index, str(store.storage))
    order = np.lexsort((index.start, recording))  # (windows,) index entries in the order of the cache
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    covered = np.diff(match.offsets) > 0  # (classes,)
    folder.mkdir()
    mapped = _room_for(folder / "mapped.npy", (len(index), len(classes)))
    arrays = [mapped]
    if store.spec.embedding:
        arrays.append(_room_for(folder / "emb.npy", (len(index), store.spec.embedding)))
    for entries, rows in labelled_shards(store):
        pooled = match.pool(rows.probabilities, store.activation)
        pooled[:, ~covered] = 0  # the mask speaks for them: a NaN would make the lookup give up the whole row
        mapped[row[entries]] = pooled  # cast to float16
        if rows.embedding is not None:
            arrays[1][row[entries]] = as_half(rows.embedding)
        on_windows(len(entries))
    for array in arrays:
        array[row[index.state != LABELLED]] = np.nan
        array.flush()
    save_array(folder / "starts.npy", index.start_s(order).astype(np.float32))
    counts = np.bincount(recording, minlength=len(stems))
    np.savez(folder / "index.npz", sample_id=stems, row_offset=offsets_of(counts)[:-1], n_windows=counts)
    meta = {"classes": list(classes), "teacher_mask": covered.tolist(), "teacher_window_s": store.spec.window.window_s}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(rows=len(index), notes=tuple(_notes(store, match)))


def _room_for(path: Path, shape: tuple[int, int]) -> np.memmap:
    """A new array of float16 on the disk, to fill in any order."""
    mapped: np.memmap = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    with open(path, "r+b") as file:
        allocate(file.fileno(), mapped.offset + mapped.nbytes)
    return mapped


def _recordings(index: StoreIndex, store: str) -> tuple[np.ndarray, np.ndarray]:
    """The stems of all recordings, sorted, and (windows,) int64 which of them each window is of."""
    paths = index.clips["path"].combine_chunks().dictionary_encode()
    stems = [PurePosixPath(path).stem for path in paths.dictionary.to_pylist()]
    if (longest := max(map(len, stems), default=0)) > LONGEST_NAME:
        raise StoreError(f"'{store}': a file name of {longest:,} characters, expected at most {LONGEST_NAME}")
    sharing = defaultdict(list)
    for path, stem in zip(paths.dictionary.to_pylist(), stems, strict=True):
        sharing[stem].append(path)
    collisions = [" and ".join(map(repr, found[:3])) for _, found in sorted(sharing.items()) if len(found) > 1]
    if collisions:
        raise StoreError(
            f"'{store}': {len(collisions)} file names belong to several recordings, expected each once because "
            f"birdnet-stm32 knows a recording by its file stem, got {'; '.join(collisions[:10])}; rename the files, or "
            "label the folders into a store each"
        )
    names, rank = np.unique(np.array(stems), return_inverse=True)
    return names, rank[paths.indices.to_numpy()][index.stored_clip]


def _notes(store: StoreReader, match: ClassMatch) -> list[str]:
    window, notes = store.spec.window, list(match.notes)
    if match.unmatched:
        notes.append(f"{len(match.unmatched)} classes keep their hard label, the teacher lacks them (teacher_mask)")
    if window.hop_s > HOP_S:
        notes.append(
            f"this store has a window every {window.hop_s:g} s; birdnet-stm32 looks up on a grid of {HOP_S:g} s: a "
            f"store made with `softlabels run --overlap {window.window_s - HOP_S:g}` fits its chunks better"
        )
    return notes
