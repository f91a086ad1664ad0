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

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from softlabels.errors import JoinError
from softlabels.hard_labels import HardLabels
from softlabels.kept import open_array
from softlabels.soft_array import open_soft
from softlabels.spec import canonical_json

JOIN_VERSION = 2
SMALL = 16 << 20  # bytes of a file that is held against its digest whenever it is opened
_ROWS = ("clip", "window_index", "start_s", "hard_group")
_HARD = ("base", "offsets", "index", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinArrays:
    """The parts of a join; memory-mapped once they come from disk.

    clips: one row a clip. clip: (rows,) int32 position in it, ascending; window_index: (rows,) int32; start_s: (rows,)
    float64 in the file. hard, hard_group: the hard labels, and (rows,) int32 which of their groups each row has.
    soft: (rows, classes) float32; NaN where the teacher said nothing.
    """

    clips: pa.Table
    clip: np.ndarray
    window_index: np.ndarray
    start_s: np.ndarray
    hard: HardLabels
    hard_group: np.ndarray
    soft: np.ndarray

    def rows_of(self, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) clips -> (n,) first row of each, and (n,) the one behind its last."""
        clip = clip.astype(self.clip.dtype)  # of another type, every row would be converted for the search
        return np.searchsorted(self.clip, clip), np.searchsorted(self.clip, clip, side="right")


def write_join(folder: Path, arrays: JoinArrays, header: dict[str, Any], *, soft: Path, copy: bool = False) -> None:
    """Write a join.

    Args:
      header: what join.json says besides the files; JSON values.
      soft: the file that holds `arrays.soft`, beside the folder.
      copy: put a copy of it into the folder.
    """
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / "clips.arrow"), "wb") as sink, pa.ipc.new_file(sink, arrays.clips.schema) as writer:
        writer.write_table(arrays.clips.combine_chunks())
    for name in _ROWS:
        np.save(folder / f"{name}.npy", getattr(arrays, name))
    for name in _HARD:
        np.save(folder / f"hard_{name}.npy", getattr(arrays.hard, name))
    if copy:
        shutil.copyfile(soft, folder / "soft.npy")
    files = {path.name: _described(path) for path in sorted(folder.iterdir())}
    header = {**header, "soft": "soft.npy" if copy else f"../{soft.name}", "files": files}
    header = {"version": JOIN_VERSION, "digest": _digest(header), **header}
    (folder / "join.json").write_bytes(canonical_json(header) + b"\n")


def _digest(header: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(header)).hexdigest()


def open_join(folder: Path, *, verify: bool) -> tuple[dict[str, Any], JoinArrays]:
    """Open what `write_join` wrote: join.json, and the arrays, memory-mapped.

    Args:
      verify: hold every file against its digest, also those above 16 MB, whose size is enough else.
    Raises: JoinError: not a saved join, of a newer version, or damaged.
    """
    header = _read_header(folder)
    for name, recorded in header["files"].items():
        _check_file(folder / name, recorded, verify=verify or recorded["size"] <= SMALL)
    clips = _open_clips(folder / "clips.arrow")
    rows = {name: open_array(folder / f"{name}.npy") for name in _ROWS}
    hard = HardLabels(**{name: open_array(folder / f"hard_{name}.npy") for name in _HARD})
    soft = open_soft(folder / header["soft"], (len(rows["clip"]), len(header["classes"])), verify=verify)
    return header, JoinArrays(clips=clips, **rows, hard=hard, soft=soft)


def _open_clips(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as e:
        raise JoinError(f"saved join: '{path}' cannot be read: {e}; delete its folder and join again") from e


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
    if version == JOIN_VERSION and digest != _digest(header):
        raise JoinError(
            f"saved join '{folder}': join.json was edited or is damaged: its digest differs; join and save again"
        )
    if version != JOIN_VERSION:
        raise JoinError(
            f"saved join '{folder}': expected version {JOIN_VERSION}, got {version!r}; join and save again with this "
            "softlabels"
        )
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
    if not digest:
        return size
    with path.open("rb") as file:
        return {**size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
