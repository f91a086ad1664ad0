"""The end of a run: what closes a store, and the sum of what it holds."""

import dataclasses
import io
from dataclasses import dataclass, field

import pyarrow.compute as pc

import softlabels
from pipeline.labelling.claims import clear_claims
from softlabels.errors import StoreError
from softlabels.records.quarantine import Quarantined
from softlabels.storage.location import Location, location
from softlabels.store.components import components_key
from softlabels.store.reader import StoreReader
from softlabels.tables import write_rows

SWEEP_AFTER_S = 24 * 3600  # younger files may belong to a run that is still writing


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did, and what the store holds now.

    clips, windows: in the store's plan; labelled, quarantined, missing: windows of it.
    left: clips in the store that are no longer in the manifest; new_windows, shards_done: by this run.
    notes: clip_id -> what is odd about the audio of a clip that this run labelled.
    different: shards that came out with other bytes than the store already holds; those stay.
    deferred: why work was put off to a later run; numerics_classes: how many kinds of machine made the store.
    stopped: why the run gave up early, or ""; resumable: whether that was the machine's fault.
    """

    store: Location
    clips: int
    windows: int
    labelled: int
    quarantined: int
    missing: int
    shard_bytes: int
    numerics_classes: int
    left: int = 0
    new_windows: int = 0
    shards_done: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    different: tuple[int, ...] = ()
    deferred: tuple[str, ...] = ()
    stopped: str = ""
    resumable: bool = False


def finish(store: str | Location) -> RunSummary:
    """Close a store that others have labelled: write `_SUCCESS` if nothing is missing, and say what it holds.

    Example:
      >>> pipeline.finish("store").missing
      0
    """
    opened = softlabels.open(store)
    write_endings(opened)
    missing = len(opened.missing_shards())
    stopped = f"{missing:,} shards are missing, so the store is not closed; label them first" if missing else ""
    return dataclasses.replace(sum_up(opened), stopped=stopped)


def sum_up(store: StoreReader) -> RunSummary:
    """What a store holds, as the summary of a run that has done nothing."""
    census, receipts = store.census, store.receipts.values()
    return RunSummary(
        store=location(str(store.storage)),
        clips=len(census.clips),
        windows=census.windows,
        labelled=census.labelled,
        quarantined=census.quarantined,
        missing=census.missing,
        shard_bytes=sum(receipt.size for receipt in receipts),
        numerics_classes=len({receipt.numerics_class for receipt in receipts}),
    )


def write_endings(store: StoreReader) -> None:
    """`_SUCCESS` if nothing is missing, `quarantine.csv`, and no trace of those who were killed on the way."""
    if not store.missing_shards():
        write_success(store)
        clear_claims(store.storage)
    # For people and spreadsheets; empty but for its header where nothing is quarantined.
    text, columns = io.StringIO(), [field.name for field in dataclasses.fields(Quarantined)]
    write_rows(text, columns, (dataclasses.astuple(entry) for entry in store.census.quarantine))
    store.storage.put_if_changed("quarantine.csv", text.getvalue().encode())
    # What killed writers left a day ago: unfinished files, and shards without a receipt.
    named = {"shards": {receipt.file for receipt in store.receipts.values()}}
    named["components"] = {components_key(store.spec.component_digest)}
    for folder in ("shards", "receipts", "plan", "joins", "claims", "components"):
        keep = named[folder] if folder in named else set(store.storage.list(folder))
        store.storage.sweep(folder, keep, older_than_s=SWEEP_AFTER_S)


def write_success(store: StoreReader) -> None:
    """`_SUCCESS-NNNN.json` for every plan: the shards it names are committed, every window accounted for."""
    for number, plan in enumerate(store.plans, start=1):
        receipts = [store.receipts[shard] for shard in plan["shard"].unique().to_pylist()]
        rows = sum(receipt.rows for receipt in receipts)
        quarantined = sum(entry.windows for receipt in receipts for entry in receipt.quarantined)
        planned = pc.sum(plan["windows"]).as_py()
        if rows + quarantined != planned:
            raise StoreError(
                f"store '{store.storage}': plan {number} has {planned} windows, its receipts account for {rows} "
                f"labelled and {quarantined} quarantined; a receipt was edited"
            )
        store.storage.put_if_changed(f"_SUCCESS-{number:04d}.json", store.success_bytes(number))
