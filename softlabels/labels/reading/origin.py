"""The store that labels were joined from: asked for again by what only it can tell."""

from pathlib import Path

from softlabels.errors import JoinError
from softlabels.labels.saved import SavedJoin
from softlabels.storage.location import location
from softlabels.storage.opening import open_storage
from softlabels.store.own_runs import has_made
from softlabels.store.reader import StoreReader


def store_of(saved: SavedJoin, store: StoreReader | str | Path | None = None, *, who: str = "adapt") -> StoreReader:
    """The store that a join was made from. Raises: JoinError: it is not there, or another one."""
    named: str | None = saved.header.get("store")
    where = named if store is None else store
    if where is None:
        raise JoinError(f"{who}: '{saved.path}' does not say which store it was made from; give it as store=")
    if store is None and named and not saved.is_kept and isinstance(location(named), str) and not has_made(named):
        raise JoinError(
            f"{who}: '{saved.path}' says that it was made from {named!r}, which no run of yours made: if you trust it, "
            "give it as store="
        )
    reader = where if isinstance(where, StoreReader) else StoreReader(open_storage(where))
    made_from = saved.header["spec"]
    if reader.spec.fingerprint() != (made_from[0] if isinstance(made_from, list) else made_from):
        raise JoinError(
            f"{who}: the labels were made from a store with another spec than that of '{reader.storage}'; give the "
            "right one as store="
        )
    return reader
