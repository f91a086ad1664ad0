"""Every file of a corpus is probed once, in parallel, and again only when it is new or changed.

Results are kept in a cache beside the store under the file's size and modification time (in a bucket: size and
entity tag), so a later run opens only files that are new or changed. The cache is a hint, and may be a stranger's:
whoever decodes a file holds rate, channels, frames and sha256 against it. It may be deleted at any time.
"""

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path

import joblib

from pipeline.planning.probe import FileProbe, probe_file
from pipeline.planning.probe_workers import probe_in_processes
from pipeline.processes import Workers, within
from softlabels.audio.decode import DEFAULT_BUDGET, AudioBudget
from softlabels.audio.root import FileState, file_states
from softlabels.digests import is_sha256, parse_json
from softlabels.errors import AudioError
from softlabels.storage.location import Location
from softlabels.storage.unfinished import full_disk_named

STATES_S, STATES_A_SECOND = 600.0, 50  # how long it may take to ask for the state of all files, far beyond what it does
CHUNK_FILES = 512  # the cache is written after so many
LONGEST = 1 << 16  # bytes of a line
_KINDS = [(name, type(value)) for name, value in dataclasses.asdict(FileProbe(path="")).items()]


def probe_files(
    root: Location,
    paths: Iterable[str],
    *,
    cache: Path | None = None,
    budget: AudioBudget = DEFAULT_BUDGET,
    workers: Workers | None = None,
    distrusted: Set[str] = frozenset(),
    on_probed: Callable[[int], None] = lambda files: None,
    keep: bool = True,
) -> dict[str, FileProbe]:
    """Probe files below a root.

    Args:
      root: the audio root; links may not lead out of it.
      paths: relative to it.
      cache: a JSON-lines file to read and extend; None probes everything.
      budget: how much a file may ask for.
      workers: processes, which a file may kill or hang; None, or none of them, probes here.
      distrusted: paths that are probed again whatever the cache says.
      on_probed: called with the number of files just finished.
      keep: extend the cache.
    Returns: path -> probe, for every path.
    Raises: EnvironmentTrouble: the audio root is gone, and does not come back.
    """
    paths = sorted(set(paths))
    known = _read_cache(cache, budget)
    trusted = [path for path in paths if path in known and path not in distrusted]
    states = within(STATES_S + len(trusted) / STATES_A_SECOND, file_states, root, trusted)
    probes = _unchanged([known[path] for path in trusted], states)
    on_probed(len(probes))
    todo = [path for path in paths if path not in probes]
    for first in range(0, len(todo), CHUNK_FILES):
        chunk = todo[first : first + CHUNK_FILES]
        if workers is not None and workers.count:
            found = probe_in_processes(root, chunk, budget, workers=workers)
        else:
            parallel = joblib.Parallel(n_jobs=workers.threads if workers else 1, backend="threading")
            found = parallel(joblib.delayed(probe_file)(root, path, budget) for path in chunk)
        probes |= {probe.path: probe for probe in found}
        if keep:
            _extend_cache(cache, found)
        on_probed(len(chunk))
    return probes


def _unchanged(known: list[FileProbe], states: Mapping[str, FileState]) -> dict[str, FileProbe]:
    """path -> probe, of files that are as they were when they were probed.

    Recorders write files of one size, and archives are unpacked with one time: of files that have both in common, which
    could have changed places, the inode counts too.
    """
    same: dict[str, FileProbe] = {}
    moved: list[FileProbe] = []
    for probe in known:
        state = states.get(probe.path)
        if state is not None and state[:3] == (probe.size, probe.mtime_ns, probe.etag):
            same[probe.path] = probe
            if state[3] != probe.inode:
                moved.append(probe)
    twins = Counter((probe.size, probe.mtime_ns, probe.etag) for probe in known) if moved else Counter()
    for probe in moved:
        if twins[probe.size, probe.mtime_ns, probe.etag] > 1:
            del same[probe.path]
    return same


def _read_cache(cache: Path | None, budget: AudioBudget) -> dict[str, FileProbe]:
    """What lines say that can have been written here, and are within the budget; other files are probed again."""
    known: dict[str, FileProbe] = {}
    for line in _lines(cache) if cache is not None and cache.is_file() else ():
        with contextlib.suppress(ValueError, TypeError, AudioError):  # such as a line cut short by a kill
            probe = FileProbe(**parse_json(line))
            budget.check(probe.rate_hz, probe.channels, probe.frames)
            usable = is_sha256(probe.sha256) and probe.frames > 0 and not probe.reason and not probe.trouble
            usable = usable and probe.container != "mp3"  # probed by a version that read MP3 in another way
            if usable and all(type(getattr(probe, name)) is kind for name, kind in _KINDS):
                known[probe.path] = probe
    return known


def _lines(cache: Path) -> Iterator[bytes]:
    """The lines of a cache, but what follows one that is too long to be of one file."""
    with cache.open("rb") as file:
        while line := file.readline(LONGEST):
            yield line
            if not line.endswith(b"\n"):
                return


def _extend_cache(cache: Path | None, probes: list[FileProbe]) -> None:
    usable = [probe for probe in probes if not probe.reason and not probe.trouble]
    if cache is None or not usable:
        return
    lines = [json.dumps(dataclasses.asdict(probe)) for probe in usable]
    with full_disk_named(f"store '{cache.parent}'", cache.name):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with open(cache, "a", encoding="utf-8") as file:
            file.write("\n".join(["", *lines, ""]))  # the first break ends a line that a kill may have cut short
