"""A join on disk: a folder of memory-mapped arrays that opens in an instant, whatever its size.

    join.json      version, fingerprint, class list, activation, window grid, report; read steps, calibration, trust;
                   sizes and digests of the rest
    clips.arrow    one row a clip: what the manifest says of it, and its file as probed
    clip.npy, window_index.npy, start_s.npy, hard_group.npy     one entry a row
    hard_*.npy     the hard labels, one group of rows each; see `HardLabels`
    soft.npy       (rows, classes) float32; a join in the cache names an array beside it instead

Joins are cached under their fingerprint, the digest of all that goes into them; a damaged one is built again.
`JoinedLabels.save` writes the same folder elsewhere, whole.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from softlabels.corpus.hard_labels import HardLabels
from softlabels.digests import canonical_json, sha256_of, sha256_of_file
from softlabels.errors import JoinError
from softlabels.labels.arrays import JoinArrays
from softlabels.storage.soft_file import open_array, open_soft
from softlabels.storage.unfinished import save_array

JOIN_VERSION = 3
READABLE = (2, 3)  # of version 2 nothing says which clips were annotated in time
SMALL = 16 << 20  # bytes of a file that is held against its digest whenever it is opened
_ROWS = {"clip_row": "clip", "window_index": "window_index", "start_s": "start_s", "hard_group": "hard_group"}
_HARD = ("base", "offsets", "index", "value")


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


def write_join(folder: Path, arrays: JoinArrays, header: dict[str, Any], *, soft: Path, copy: bool = False) -> None:
    """Write a join.

    Args:
      header: what join.json says besides the files. soft: the file of `arrays.soft`; copy: put one into the folder.
    """
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / "clips.arrow"), "wb") as sink, pa.ipc.new_file(sink, arrays.clips.schema) as writer:
        writer.write_table(arrays.clips.combine_chunks())
    for name, stem in _ROWS.items():
        save_array(folder / f"{stem}.npy", getattr(arrays, name))
    for name in _HARD:
        save_array(folder / f"hard_{name}.npy", getattr(arrays.hard, name))
    if copy:
        shutil.copyfile(soft, folder / "soft.npy")
    files = {path.name: _described(path) for path in sorted(folder.iterdir())}
    header = {**header, "soft": "soft.npy" if copy else f"../{soft.name}", "files": files}
    header = {"version": JOIN_VERSION, "digest": sha256_of(header), **header}
    (folder / "join.json").write_bytes(canonical_json(header) + b"\n")


def open_join(folder: Path, *, verify: bool = False) -> SavedJoin:
    """Open what `write_join` wrote; verify holds every file against its digest, also those above 16 MB.

    Raises: JoinError: not a saved join, of a newer version, or damaged.
    """
    header = _read_header(folder)
    for name, recorded in header["files"].items():
        _check_file(folder / name, recorded, verify=verify or recorded["size"] <= SMALL)
    clips = _open_clips(folder / "clips.arrow")
    rows = {name: open_array(folder / f"{stem}.npy") for name, stem in _ROWS.items()}
    hard = HardLabels(**{name: open_array(folder / f"hard_{name}.npy") for name in _HARD})
    classes = len(header["classes"])
    soft = open_soft(folder / header["soft"], (len(rows["clip_row"]), classes), verify=verify)
    arrays = JoinArrays(clips=clips, **rows, hard=hard, soft=soft)
    weak = arrays.weak_clips() & (header["windows"] == "each")
    return SavedJoin(path=folder.resolve(), header=header, arrays=arrays, table=hard.table(classes), weak=weak)


def _open_clips(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            clips = pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as e:
        raise JoinError(f"saved join: '{path}' cannot be read: {e}; delete its folder and join again") from e
    if "in_time" not in clips.column_names:  # version 2
        clips = clips.append_column("in_time", pa.array(np.zeros(len(clips), bool)))
    return clips


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / "join.json").read_bytes())
        version, digest = header.pop("version"), header.pop("digest")
    except FileNotFoundError as e:
        raise JoinError(f"'{folder}' holds no saved join (no join.json); `labels.save(path)` writes one") from e
    except OSError as e:
        raise JoinError(f"saved join '{folder}': join.json cannot be read: {e.strerror}") from e
    except (ValueError, TypeError, KeyError) as e:
        raise JoinError(f"saved join '{folder}': join.json is damaged: {e}; join and save again") from e
    wrong = ""
    if version not in READABLE:
        wrong = f"expected version {JOIN_VERSION}, got {version!r}; join and save again with this softlabels"
    elif digest != sha256_of(header):
        wrong = "join.json was edited or is damaged: its digest differs; join and save again"
    if wrong:
        raise JoinError(f"saved join '{folder}': {wrong}")
    return header


def _check_file(path: Path, recorded: dict[str, Any], *, verify: bool) -> None:
    found = _described(path, digest=verify) if path.is_file() else "no file"
    if not isinstance(found, dict) or any(recorded[what] != value for what, value in found.items()):
        raise JoinError(
            f"saved join '{path.parent}': {path.name} is damaged: expected {recorded}, got {found}; delete the folder "
            "and join again"
        )


def _described(path: Path, *, digest: bool = True) -> dict[str, Any]:
    size = {"size": path.stat().st_size}
    return {**size, "sha256": sha256_of_file(path)} if digest else size
