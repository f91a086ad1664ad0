"""A join on disk: a folder of memory-mapped arrays that opens in an instant, whatever its size.

    join.json      version, fingerprint, class list, activation, window grid, report; sizes and digests of the rest
    clips.arrow    one row a clip: what the manifest says of it, and its file as probed
    clip.npy, window_index.npy, start_s.npy, hard_group.npy     one entry a row
    hard_*.npy     the hard labels, one group of rows each; see `HardLabels`
    soft.npy       (rows, classes) float32; a join in the cache names an array beside it instead

Joins are cached under their fingerprint, the digest of all that goes into them. `JoinedLabels.save` writes the same
folder elsewhere, whole.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from softlabels.errors import JoinError
from softlabels.hard_labels import HardLabels
from softlabels.spec import canonical_json
from softlabels.storage import TEMPORARY

if TYPE_CHECKING:
    from softlabels.store import SoftLabelStore

JOIN_VERSION = 1
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


def cache_folder(store: "SoftLabelStore", cache_dir: str | Path | None) -> Path:
    """Where joins of a store are kept: `cache_dir`, else inside the store, else (read-only) the user's cache."""
    if cache_dir is not None:
        return Path(cache_dir)
    if os.access(store.storage.root, os.W_OK):
        return store.storage.path("joins")
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "softlabels" / "joins"


def build_once(path: Path, build: Callable[[Path], None]) -> None:
    """Make `path` by calling `build` with a temporary path beside it, unless it is there.

    Several processes that start together wait for the one that builds; one that dies leaves nothing behind but a
    temporary, and the next one builds.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if path.exists():
            return
        temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}{path.suffix}"
        try:
            build(temporary)
            os.replace(temporary, path)
        except OSError:
            if not path.is_dir():  # without locks another process may have made the folder meanwhile
                raise
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a path; where the file system has none, go on without: the outcome is the same."""
    lock = path.parent / f"{TEMPORARY}{path.name}.lock"
    with open(lock, "wb") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    lock.unlink(missing_ok=True)


def write_join(folder: Path, arrays: JoinArrays, header: dict[str, Any], *, soft: Path | None = None) -> None:
    """Write a join.

    Args:
      header: what join.json says besides the files; JSON values.
      soft: the file that holds `arrays.soft` already and is named by its relative path; None writes a copy.
    """
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / "clips.arrow"), "wb") as sink, pa.ipc.new_file(sink, arrays.clips.schema) as writer:
        writer.write_table(arrays.clips.combine_chunks())
    for name in _ROWS:
        np.save(folder / f"{name}.npy", getattr(arrays, name))
    for name in _HARD:
        np.save(folder / f"hard_{name}.npy", getattr(arrays.hard, name))
    if soft is None:
        np.save(folder / "soft.npy", arrays.soft)
    files = {path.name: _described(path) for path in sorted(folder.iterdir())}
    header = {"version": JOIN_VERSION, **header, "soft": f"../{soft.name}" if soft else "soft.npy", "files": files}
    (folder / "join.json").write_bytes(canonical_json(header) + b"\n")


def open_join(folder: Path, *, verify: bool) -> tuple[dict[str, Any], JoinArrays]:
    """Open what `write_join` wrote: join.json, and the arrays, memory-mapped.

    Args:
      verify: hold every file against its digest, not only its size.
    Raises: JoinError: not a saved join, of a newer version, or damaged.
    """
    header = _read_header(folder)
    for name, recorded in header["files"].items():
        _check_file(folder / name, recorded, verify=verify)
    with pa.memory_map(str(folder / "clips.arrow")) as source:
        clips = pa.ipc.open_file(source).read_all()
    rows = {name: open_array(folder / f"{name}.npy") for name in _ROWS}
    hard = HardLabels(**{name: open_array(folder / f"hard_{name}.npy") for name in _HARD})
    soft = open_array(folder / header["soft"])
    if soft.shape != (len(rows["clip"]), len(header["classes"])):
        raise JoinError(
            f"saved join '{folder}': expected soft labels for {len(rows['clip'])} rows and {len(header['classes'])} "
            f"classes, got {soft.shape}; delete the folder and join again"
        )
    return header, JoinArrays(clips=clips, **rows, hard=hard, soft=soft)


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / "join.json").read_bytes())
        version = header["version"]
        header["classes"], header["files"], header["soft"]  # all there?
    except FileNotFoundError as e:
        raise JoinError(f"'{folder}' holds no saved join (no join.json); `labels.save(path)` writes one") from e
    except (ValueError, TypeError, KeyError) as e:
        raise JoinError(f"saved join '{folder}': join.json is damaged: {e}; join and save again") from e
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


def open_array(path: Path) -> np.ndarray:
    """A .npy file, memory-mapped and read-only, as a plain array: numpy.memmap costs a microsecond a slice."""
    try:
        return np.load(path, mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError) as e:
        raise JoinError(f"saved join: '{path}' cannot be read: {e}; delete its folder and join again") from e
