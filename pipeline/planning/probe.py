"""What a file is before it is decoded: size, sha256, frames, rate, channels; or why it cannot be used."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from softlabels.audio.decode import DEFAULT_BUDGET, AudioBudget, audio_sha256, probe_audio
from softlabels.audio.faults import os_errors_explained
from softlabels.audio.root import below_root, file_state, local_file
from softlabels.errors import AudioError, EnvironmentTrouble
from softlabels.storage.location import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProbe:
    """One audio file; `reason` is empty, or says why it cannot be used.

    etag: of an object in a bucket, in place of mtime_ns; inode: of a file, 0 in caches of before.
    note: what is odd about it, but harmless.
    trouble: the environment kept it from being probed; its clips wait for a later run.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    etag: str = ""
    inode: int = 0
    sha256: str = ""
    container: str = ""
    frames: int = 0
    rate_hz: int = 0
    channels: int = 0
    note: str = ""
    reason: str = ""
    detail: str = ""
    trouble: str = ""


def probe_file(root: Location, path: str, budget: AudioBudget = DEFAULT_BUDGET) -> FileProbe:
    """Probe one file; what is wrong with it is in the result."""
    try:
        if isinstance(root, Path):
            check_inside(root, path, links=budget.follow_links)
        size, mtime_ns, etag, inode = file_state(root, path)  # before the bytes: what changes meanwhile is probed again
        with local_file(root, path, max_bytes=budget.max_bytes) as file:
            info = probe_audio(file, budget=budget)
            sha256 = audio_sha256(file)
    except AudioError as e:
        return FileProbe(path=path, reason=e.reason, detail=e.detail)
    except EnvironmentTrouble as e:
        return FileProbe(path=path, trouble=str(e))
    except MemoryError as e:
        return FileProbe(path=path, trouble=f"'{path}': out of memory: {e}")
    state = FileProbe(path=path, size=size, mtime_ns=mtime_ns, etag=etag, inode=inode, sha256=sha256)
    return dataclasses.replace(state, **dataclasses.asdict(info))


def check_inside(root: Path, path: str, *, links: bool = False) -> None:
    """Hold where a path leads against the root.

    Args:
      links: it may lead out of the root.
    Raises: AudioError: outside-root, missing, or unreadable where links lead in a circle or a name is too long;
      EnvironmentTrouble.
    """
    try:
        with below_root(root), os_errors_explained(root / path):
            inside = (root / path).resolve(strict=True).is_relative_to(root.resolve(strict=True))
    except RuntimeError as e:  # a link to itself, before Python 3.13
        raise AudioError(f"unreadable: '{path}': its links lead in a circle") from e
    if not inside and not links:
        raise AudioError(f"outside-root: '{path}' leads out of the audio root through a link; --follow-links allows it")
