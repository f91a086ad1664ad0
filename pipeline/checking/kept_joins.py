"""Joins that were kept inside a store: is every byte of them what was built? Nothing is held against the shards."""

from collections.abc import Iterator
from pathlib import Path

from softlabels.digests import parse_json
from softlabels.errors import JoinError
from softlabels.kept.kept_file import read_small
from softlabels.kept.soft_file import check_soft
from softlabels.storage.local import LocalStorage
from softlabels.storage.protocol import TEMPORARY, Storage

FOLDER = "joins"


def joins_problems(storage: Storage) -> Iterator[str]:
    """What is wrong with a store's `joins/`; a bucket has none. Raises: EnvironmentTrouble: it cannot be read now."""
    if not isinstance(storage, LocalStorage) or not storage.path(FOLDER).is_dir():
        return
    from softlabels.labels.joined_labels import JoinedLabels  # other commands start faster without it

    for path in sorted(storage.path(FOLDER).iterdir()):
        if path.name.startswith(TEMPORARY):
            continue
        try:
            if path.suffix == ".npy":
                check_soft(path)  # once, however many joins have it in common
            elif path.name.startswith("join-") and not _outdated(path):
                JoinedLabels.open(path)
        except JoinError as e:
            yield f"{FOLDER}/{path.name}: {e}; delete it: the next join builds it again"


def _outdated(folder: Path) -> bool:
    """Whether an older softlabels kept a join, which nobody reads any more."""
    from softlabels.labels.saved import JOIN_VERSION, MOST_HEADER

    try:
        return parse_json(read_small(folder / "join.json", MOST_HEADER))["version"] < JOIN_VERSION
    except (JoinError, ValueError, TypeError, KeyError):
        return False
