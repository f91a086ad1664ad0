"""What every file is before it is decoded: size, sha256, frames, rate, channels. Once a file, in parallel.

Results are kept in a cache beside the store under the file's size and modification time (in a bucket: size and
entity tag), so a later run opens only files that are new or changed. The cache is a hint: it may be deleted at any
time.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from pathlib import Path

import joblib

from softlabels.audio.decode import DEFAULT_BUDGET, AudioBudget, audio_os_error, audio_sha256, probe_audio
from softlabels.audio.root import file_state, file_states, local_file
from softlabels.errors import AudioError, EnvironmentTrouble
from softlabels.storage.location import Location
from softlabels.storage.unfinished import full_disk_named

CHUNK_FILES = 512  # the cache is written after so many


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProbe:
    """One audio file; `reason` is empty, or says why it cannot be used.

    etag: of an object in a bucket, in place of mtime_ns.
    trouble: the environment kept it from being probed; its clips wait for a later run.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    etag: str = ""
    sha256: str = ""
    container: str = ""
    frames: int = 0
    rate_hz: int = 0
    channels: int = 0
    reason: str = ""
    detail: str = ""
    trouble: str = ""


def probe_files(
    root: Location,
    paths: Iterable[str],
    *,
    cache: Path | None = None,
    budget: AudioBudget = DEFAULT_BUDGET,
    jobs: int = 1,
    distrusted: Set[str] = frozenset(),
    on_probed: Callable[[int], None] = lambda files: None,
) -> dict[str, FileProbe]:
    """Probe files below a root.

    Args:
      root: the audio root; links may not lead out of it.
      paths: relative to it.
      cache: a JSON-lines file to read and extend; None probes everything.
      budget: how much a file may ask for.
      jobs: threads.
      distrusted: paths that are probed again whatever the cache says.
      on_probed: called with the number of files just finished.
    Returns: path -> probe, for every path.
    """
    paths = sorted(set(paths))
    known = _read_cache(cache)
    trusted = [path for path in paths if path in known and path not in distrusted]
    states = file_states(root, trusted)
    stored = {path: (known[path].size, known[path].mtime_ns, known[path].etag) for path in trusted}
    probes = {path: known[path] for path in trusted if states.get(path) == stored[path]}
    on_probed(len(probes))
    todo = [path for path in paths if path not in probes]
    for first in range(0, len(todo), CHUNK_FILES):
        chunk = todo[first : first + CHUNK_FILES]
        parallel = joblib.Parallel(n_jobs=jobs, backend="threading")
        found = parallel(joblib.delayed(probe_file)(root, path, budget) for path in chunk)
        probes |= {probe.path: probe for probe in found}
        _extend_cache(cache, found)
        on_probed(len(chunk))
    return probes


def probe_file(root: Location, path: str, budget: AudioBudget = DEFAULT_BUDGET) -> FileProbe:
    """Probe one file; what is wrong with it is in the result."""
    try:
        if isinstance(root, Path):
            check_inside(root, path)
        size, mtime_ns, etag = file_state(root, path)  # before the bytes: what changes meanwhile is probed again
        with local_file(root, path, max_bytes=budget.max_bytes) as file:
            info = probe_audio(file, budget=budget)
            sha256 = audio_sha256(file)
    except AudioError as e:
        return FileProbe(path=path, reason=e.reason, detail=e.detail)
    except EnvironmentTrouble as e:
        return FileProbe(path=path, trouble=str(e))
    return FileProbe(path=path, size=size, mtime_ns=mtime_ns, etag=etag, sha256=sha256, **dataclasses.asdict(info))


def check_inside(root: Path, path: str) -> None:
    """Raises: AudioError: outside-root, or unreadable where links lead in a circle or a name is too long."""
    try:
        inside = (root / path).resolve().is_relative_to(root.resolve())
    except OSError as e:
        raise audio_os_error(root / path, e) from e
    except RuntimeError as e:  # a link to itself, before Python 3.13
        raise AudioError(f"unreadable: '{path}': its links lead in a circle") from e
    if not inside:
        raise AudioError(f"outside-root: '{path}' leads out of the audio root")


def _read_cache(cache: Path | None) -> dict[str, FileProbe]:
    known: dict[str, FileProbe] = {}
    for line in cache.read_text(encoding="utf-8").splitlines() if cache is not None and cache.is_file() else ():
        with contextlib.suppress(ValueError, TypeError):  # a line cut short by a kill: its file is probed again
            probe = FileProbe(**json.loads(line))
            known[probe.path] = probe
    return known


def _extend_cache(cache: Path | None, probes: list[FileProbe]) -> None:
    usable = [probe for probe in probes if not probe.reason and not probe.trouble]
    if cache is None or not usable:
        return
    lines = [json.dumps(dataclasses.asdict(probe)) for probe in usable]
    with full_disk_named(f"store '{cache.parent}'", cache.name):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with open(cache, "a", encoding="utf-8") as file:
            file.write("\n".join(["", *lines, ""]))  # the first break ends a line that a kill may have cut short
