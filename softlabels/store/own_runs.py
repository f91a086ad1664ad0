"""Runs that this user made on this machine: where the audio was and which teacher scored it.

$XDG_CACHE_HOME/softlabels/runs/<sha256 of the store's place and fingerprint>.json     (mode 0600)

A store may come from anybody, so what it says of a machine (run.json) is for people to read. What is scored again, and
where audio is read, comes from whoever asks or from here.
"""

import dataclasses
import json
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softlabels.digests import canonical_json, sha256_of
from softlabels.os_errors import told
from softlabels.platforms import NO_LINK, NO_WAIT, is_mine_alone
from softlabels.storage.file_cache import user_folder
from softlabels.storage.location import absolute, location
from softlabels.storage.protocol import Storage
from softlabels.storage.unfinished import all_or_nothing

logger = logging.getLogger(__name__)
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRun:
    """A run of this user's. audio_root: a folder or the URL of a bucket; teacher: the fields of its choice.

    manifest: the file; "" where clips came from no file, and in runs of before.
    """

    audio_root: str
    teacher: dict[str, Any]
    manifest: str = ""


def remember_run(storage: Storage, fingerprint: str, run: OwnRun) -> None:
    """Remember the latest run that made or extended a store; where that cannot be, a warning says so."""
    if own_run(storage, fingerprint) == run:
        return
    place = _place(storage, fingerprint)
    fields = {"store": place, **dataclasses.asdict(run)}
    path = _path(place)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            all_or_nothing(path) as temporary,
            open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
        ):
            file.write(canonical_json({"digest": sha256_of(fields), **fields}))
    except OSError as e:
        logger.warning("%s: this run is not remembered, verify --recompute will ask for its teacher", told(e))


def own_run(storage: Storage, fingerprint: str) -> OwnRun | None:
    """This user's latest run on a store at its place; None where there was none, or its file is not as it was written.

    Args:
      fingerprint: of the store's spec.
    """
    place = _place(storage, fingerprint)
    found = _read(_path(place))
    return found[1] if found is not None and found[0] == place else None


def has_read(audio_root: str) -> bool:
    """Whether any run of this user's read audio from there; who names a bucket may want it read by others."""
    return any(run.audio_root == audio_root for _, run in _all_runs())


def has_made(store: str) -> bool:
    """Whether any run of this user's made or extended a store there."""
    return any(place[0] == absolute(location(store)) for place, _ in _all_runs())


def _all_runs() -> Iterator[tuple[list[str], OwnRun]]:
    found = map(_read, (user_folder() / "runs").glob("*.json"))
    return (each for each in found if each is not None)


def _read(path: Path) -> tuple[list[str], OwnRun] | None:
    """The store's place and the run; None where the file is not there, or not as it was written."""
    try:
        found = json.loads(_read_own(path))
        if found.pop("digest") != sha256_of(found):
            return None
        return found.pop("store"), OwnRun(**found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _place(storage: Storage, fingerprint: str) -> list[str]:
    return [absolute(location(str(storage))), fingerprint]


def _path(place: list[str]) -> Path:
    return user_folder() / "runs" / f"{sha256_of(place)}.json"


def _read_own(path: Path) -> bytes:
    """The content of a file that only this user can have written. Raises: OSError, ValueError."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_LINK | NO_WAIT)) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or not is_mine_alone(state):
            raise ValueError(f"'{path}' may be another user's")
        return file.read(MOST_BYTES)
