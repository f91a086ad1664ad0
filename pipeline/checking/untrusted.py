"""What stands in a store by somebody else beside what is read of it: links, pipes, files that are not of a store."""

import os
import re
import stat
from collections.abc import Iterator

from softlabels.errors import StoreError
from softlabels.os_errors import told
from softlabels.records.receipts import read_receipt
from softlabels.storage.local import LocalStorage
from softlabels.storage.protocol import Storage
from softlabels.store.reader import StoreReader

NAMES = re.compile(  # of a store, as the README of `store` lists them
    r"store\.json|classes\.txt|requirements\.txt|README\.md|quarantine\.csv|run\.json|probe_cache\.jsonl"
    r"|_SUCCESS-[0-9]{4,9}\.json|plan/[0-9]{4,9}\.parquet|receipts/[0-9]{5,10}\.g[0-9]{1,9}\.json"
    r"|shards/[0-9]{5,10}-[0-9a-f]{12}\.parquet|components/[0-9a-f]{12}\.parquet"
    r"|claims/[a-z0-9.-]+|joins/.+|\.gitattributes|\.huggingface/.+|\.cache/.+|\.git/.+"
)
FOLDERS = ("plan", "receipts", "shards", "components")
MOST = 10  # of a kind are named


def strange_files(store: StoreReader) -> Iterator[str]:
    """What of a store's files is not as softlabels writes them; read are only names, kinds and old receipts."""
    storage = store.storage
    if isinstance(storage, LocalStorage):
        yield from _some(list(_strange_local(storage)))
    else:
        yield from _some([f"{key} is no file of a store" for key in _keys(storage) if not NAMES.fullmatch(key)])
    yield from _some(list(_old_receipts(store)))
    if "joins" in storage.names():
        yield "joins/ holds arrays that no digest vouches for; delete it, or give joins another place with cache_dir"
    yield from _some(list(_strange_paths(store)))


def _strange_local(storage: LocalStorage) -> Iterator[str]:
    for folder, folders, files in os.walk(storage.root):
        for name in sorted((*folders, *files)):
            path = os.path.join(folder, name)
            key, mode = os.path.relpath(path, storage.root).replace(os.sep, "/"), os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                yield f"{key!r} is a link to {os.readlink(path)!r}"
            elif stat.S_ISREG(mode):
                if not NAMES.fullmatch(key):
                    yield f"{key!r} is no file of a store"
            elif not stat.S_ISDIR(mode):
                yield f"{key!r} is a pipe, a device or a socket"


def _keys(storage: Storage) -> Iterator[str]:
    yield from sorted(storage.names() - {*FOLDERS, "joins", "claims"})
    for folder in FOLDERS:
        yield from storage.list(folder)


def _old_receipts(store: StoreReader) -> Iterator[str]:
    """Receipts that another generation has replaced, or whose name does not count."""
    current = set(store.receipt_keys.values())
    for key in store.storage.list("receipts"):
        if key not in current:
            try:
                read_receipt(store.storage, key)
            except (StoreError, OSError) as e:
                yield told(e)


def _strange_paths(store: StoreReader) -> Iterator[str]:
    """Clips whose audio would be looked for outside the audio root, whatever that is."""
    for number, plan in enumerate(store.plans, start=1):
        for path in plan["path"].unique().to_pylist():
            parts = path.split("/")
            if not path or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
                yield f"plan/{number:04d}.parquet: the path {path[:100]!r} leads out of the audio root"


def _some(problems: list[str]) -> list[str]:
    """The first ones, and how many more."""
    more = [f"and {len(problems) - MOST:,} more of the kind"] if len(problems) > MOST else []
    return problems[:MOST] + more
