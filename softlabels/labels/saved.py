"""A join on disk: a folder of memory-mapped arrays that opens in an instant, whatever its size.

    join.json      version, fingerprint, class list, activation, window grid, report; read steps, calibration, trust;
                   sizes and digests of the rest
    clips.arrow    one row a clip: what the manifest says of it, and its file as probed
    clip.npy, window_index.npy, start_s.npy, hard_group.npy     one entry a row
    hard_*.npy     the hard labels, one group of rows each; see `HardLabels`
    soft.npy       (rows, classes) float32; a join in the cache names an array beside it instead
    embedding.npy  (rows, width) float16, where it was saved with them; see `reading.embeddings`

Joins are cached under their fingerprint, the digest of all that goes into them; a damaged one is built again.
`JoinedLabels.save` writes the same folder elsewhere, whole. Nothing in it is believed: join.json carries its own
digest and those of the files, which are held against them at every opening, and that of the soft half's checksums,
against which its pages are held as they are read.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from softlabels.corpus.clip_table import open_clips
from softlabels.corpus.hard_labels import HardLabels
from softlabels.digests import canonical_json, parse_json, sha256_of
from softlabels.errors import ClassListError, JoinError
from softlabels.evidence.agreement import row_blocks
from softlabels.kept.kept_file import SMALL, check_file, described, open_array, read_small
from softlabels.kept.soft_file import EMBEDDING, HALF, CheckedRows, open_soft, read_in_full, write_soft
from softlabels.labels.arrays import JoinArrays
from softlabels.storage.unfinished import save_array
from softlabels.threads import in_threads

JOIN_VERSION = 4
READABLE = (2, 3, 4)  # of version 2 nothing says which clips were annotated in time
MOST_HEADER = 1 << 25  # bytes of a join.json: a hundred thousand classes
CHECKED = 4  # the first version that has checksums of pages; an older soft half is read in full before it is used
_ROWS = {"clip_row": "clip", "window_index": "window_index", "start_s": "start_s", "hard_group": "hard_group"}
_HARD = ("base", "offsets", "index", "value")
_TYPES = {"start_s": np.float64, "base": np.float32, "offsets": np.int64, "value": np.float32}  # others: int32
_SOFT = re.compile(r"soft\.npy|\.\./soft-[0-9a-f]{64}\.npy")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedJoin:
    """An open join: its folder, what join.json says, its arrays. table: as `HardLabels.table` gives it.

    weak: (clips,) bool, as `JoinArrays.weak_clips` gives it; nobody where a row is a clip.
    """

    path: Path
    header: dict[str, Any]
    arrays: JoinArrays
    table: np.ndarray | None
    weak: np.ndarray
    opened: dict[str, CheckedRows] = field(default_factory=dict)  # arrays beside it, once somebody has asked for them
    _positions: dict[str, int] = field(default_factory=dict)  # of clips by id; filled when somebody first asks

    def clip_rows(self, clip_ids: Sequence[str | bytes]) -> np.ndarray:
        """(n,) ids -> (n,) int64. Raises: ValueError: one that is no clip of the join."""
        if not self._positions:
            self._positions.update((clip, i) for i, clip in enumerate(self.arrays.clips["clip_id"].to_pylist()))
        try:
            found = [self._positions[i.decode() if isinstance(i, bytes) else i] for i in clip_ids]
        except KeyError as e:
            raise ValueError(f"clip_ids: {e.args[0]!r} is not a clip of this join of {len(self._positions)}") from e
        return np.array(found, np.int64)

    @property
    def soft_path(self) -> Path:
        return self.path / self.header["soft"]

    @property
    def is_kept(self) -> bool:
        """Whether it is a cached one, beside whose folder the soft half is; else somebody saved it."""
        return self.header["soft"].startswith("..")


def write_join(
    folder: Path,
    arrays: JoinArrays,
    header: dict[str, Any],
    *,
    soft: Path | None,
    embeddings: CheckedRows | None = None,
) -> None:
    """Write a join.

    Args:
      header: what join.json says besides the files.
      soft: the file of `arrays.soft`, which lies beside the folder; None: the folder gets one of its own.
      embeddings: for a file of its own, too.
    """
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / "clips.arrow"), "wb") as sink, pa.ipc.new_file(sink, arrays.clips.schema) as writer:
        writer.write_table(arrays.clips.combine_chunks())
    for name, stem in _ROWS.items():
        save_array(folder / f"{stem}.npy", getattr(arrays, name))
    for name in _HARD:
        save_array(folder / f"hard_{name}.npy", getattr(arrays.hard, name))
    if soft is None:
        blocks = (arrays.soft[block] for block in row_blocks(*arrays.soft.shape))
        write_soft(folder / "soft.npy", arrays.soft.shape, blocks)
    if embeddings is not None:
        blocks = (embeddings[block] for block in row_blocks(*embeddings.shape))
        write_soft(folder / f"{EMBEDDING}.npy", embeddings.shape, blocks, dtype=HALF)
    if isinstance(noted := header.get("embedding"), dict):
        own = {} if embeddings is None else {"digest": embeddings.digest}
        header = {**header, "embedding": {name: noted[name] for name in noted if name != "digest"} | own}
    files = {path.name: described(path) for path in sorted(folder.iterdir())}
    kept = open_soft(soft or folder / "soft.npy", arrays.soft.shape)
    header = {**header, "soft": f"../{soft.name}" if soft else "soft.npy", "soft_digest": kept.digest, "files": files}
    header = {"version": JOIN_VERSION, "digest": sha256_of(header), **header}
    (folder / "join.json").write_bytes(canonical_json(header) + b"\n")


def open_join(folder: Path, *, verify: bool = False) -> SavedJoin:
    """Open what `write_join` wrote; verify looks at every page of the soft half too, now.

    Raises: JoinError: not a saved join, of a newer version, or damaged. EnvironmentTrouble: it cannot be read now.
    """
    version, header = _read_header(folder)
    with said_by(folder):
        arrays = _open_files(folder, header, version, verify)
        _check_ranges(arrays, len(header["classes"]))
        if header["soft"] == "soft.npy":  # a kept one was built here
            _check_windows(arrays)
        weak = arrays.weak_clips() & (header["windows"] == "each")
        table = arrays.hard.table(len(header["classes"]))
        return SavedJoin(path=folder.resolve(), header=header, arrays=arrays, table=table, weak=weak)


@contextlib.contextmanager
def said_by(folder: Path) -> Iterator[None]:
    """Name the join.json that says, under a digest that fits, what describes no join. Raises: JoinError."""
    try:
        yield
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        pa.ArrowException,
        ClassListError,
    ) as e:
        raise JoinError(f"saved join '{folder}': it describes no join: {e!r}; delete the folder and join again") from e


def _open_files(folder: Path, header: dict[str, Any], version: int, verify: bool) -> JoinArrays:
    """The arrays of a join, each file of which is what was noted of it."""
    saved, noted, classes = header["soft"] == "soft.npy", header["files"], len(header["classes"])
    own = {"soft.npy"} if saved else set()
    if saved and isinstance(header.get("embedding"), dict) and "digest" in header["embedding"]:
        own.add(f"{EMBEDDING}.npy")
    names = {"clips.arrow", *(f"{stem}.npy" for stem in _ROWS.values()), *(f"hard_{name}.npy" for name in _HARD)}
    if not _SOFT.fullmatch(header["soft"]) or set(noted) != names | own:
        raise ValueError(f"expected the files of a join, got {sorted(noted)} and {header['soft']}")
    if version < CHECKED and not saved:
        raise JoinError(f"saved join '{folder}': an older softlabels kept it; delete the folder and join again")
    read = [name for name in noted if name in names or verify or version < CHECKED]  # other pages as they are read
    checks = ((folder / name, noted[name], name in read) for name in sorted(noted))
    if sum(noted[name]["size"] for name in read) > SMALL:
        list(in_threads(lambda path, recorded, digest: check_file(path, recorded, digest=digest), checks))
    else:
        for path, recorded, digest in checks:
            check_file(path, recorded, digest=digest)
    clips = open_clips(folder / "clips.arrow", in_time=version > 2)
    rows = {name: open_array(folder / f"{stem}.npy", _TYPES.get(name, np.int32)) for name, stem in _ROWS.items()}
    parts = {name: open_array(folder / f"hard_{name}.npy", _TYPES.get(name, np.int32)) for name in _HARD}
    path, shape = folder / header["soft"], (len(rows["clip_row"]), classes)
    soft = open_soft(path, shape, verify=verify) if version >= CHECKED else read_in_full(path, shape)
    if version >= CHECKED and soft.digest != header["soft_digest"]:
        raise JoinError(f"saved join '{folder}': '{path}' holds other soft labels; delete the folder and join again")
    return JoinArrays(clips=clips, **rows, hard=HardLabels(**parts), soft=soft)


def _check_ranges(arrays: JoinArrays, classes: int) -> None:
    """See that all numbers point at what is there. Raises: ValueError."""
    hard, rows = arrays.hard, len(arrays)
    ascending = bool((arrays.clip_row[1:] >= arrays.clip_row[:-1]).all())
    fits = {
        "clip": ascending and _within(arrays.clip_row, len(arrays.clips)),
        "window_index": len(arrays.window_index) == rows and _within(arrays.window_index, np.inf),
        "start_s": len(arrays.start_s) == rows and _within(arrays.start_s, np.inf),
        "hard_group": len(arrays.hard_group) == rows and _within(arrays.hard_group, len(hard)),
        "hard": hard.fits(classes),
    }
    wrong = [name for name, good in fits.items() if not good]
    if wrong:
        raise ValueError(f"values that fit no join in {', '.join(wrong)}")


def _check_windows(arrays: JoinArrays) -> None:
    """See that the rows of each clip are windows that it has, each once and in order. Raises: ValueError."""
    clip, window = arrays.clip_row, arrays.window_index
    follows = clip[1:] == clip[:-1]  # (rows - 1,)
    last = np.append(np.flatnonzero(~follows), np.arange(len(clip))[-1:])  # row of each clip
    beyond = window[last] >= np.maximum(arrays.clips["windows"].to_numpy()[clip[last]], 1)
    wrong = np.append(last[beyond], np.flatnonzero(follows & (window[1:] <= window[:-1])))
    if len(wrong):
        name = arrays.clips["clip_id"][int(clip[wrong[0]])]
        raise ValueError(f"{len(wrong)} rows, the first of clip {name}, that are none of its windows, or not in order")


def _within(values: np.ndarray, end: float) -> bool:
    return not len(values) or bool(values.min() >= 0 and values.max() < end)


def _read_header(folder: Path) -> tuple[int, dict[str, Any]]:
    """The version, and what join.json says."""
    path, wrong = folder / "join.json", ""
    if folder.is_dir() and not path.exists():
        raise JoinError(f"'{folder}' holds no saved join (no join.json); `labels.save(path)` writes one")
    data = read_small(path, MOST_HEADER)
    try:
        header = parse_json(data)
        version, digest = header.pop("version"), header.pop("digest")
        edited = digest != sha256_of(header)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise JoinError(f"saved join '{folder}': join.json is damaged: {e}; join and save again") from e
    if version not in READABLE:
        wrong = f"expected version {JOIN_VERSION}, got {version!r}; join and save again with this softlabels"
    elif edited:
        wrong = "join.json was edited or is damaged: its digest differs; join and save again"
    if wrong:
        raise JoinError(f"saved join '{folder}': {wrong}")
    return version, header
