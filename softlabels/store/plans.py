"""The plan files of a store, read as one sequence, and held against the receipts of what was made from them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from softlabels.digests import sha256_of_bytes
from softlabels.errors import StoreError
from softlabels.os_errors import told
from softlabels.records.plan_file import check_plan, decode_plan, plan_keys
from softlabels.records.receipts import ReceiptHead
from softlabels.records.spec import LabelSpec
from softlabels.storage.protocol import Storage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanFile:
    """One plan: its key, its rows, the sha256 of its bytes, and the shards it has."""

    key: str
    table: pa.Table
    digest: str
    shards: range


def read_plans(storage: Storage, spec: LabelSpec) -> list[PlanFile]:
    """All plans, oldest first. Raises: StoreError: one is gone, damaged, or of another spec."""
    plans: list[PlanFile] = []
    first = 0
    for number, key in enumerate(plan_keys(storage.list("plan")), start=1):
        try:
            if key != f"plan/{number:04d}.parquet":
                raise StoreError(f"plan/{number:04d}.parquet is gone")
            data = storage.get(key)
            table = decode_plan(data, spec.fingerprint())
            check_plan(table, spec, first_shard=first)
        except (StoreError, OSError) as e:
            raise StoreError(f"store '{storage}': {key} is damaged: {told(e)}; restore it from a copy") from e
        shards = range(first, first + len(table["shard"].unique()))
        plans.append(PlanFile(key=key, table=table, digest=sha256_of_bytes(data), shards=shards))
        first = shards.stop
    return plans


def hold_plans(storage: Storage, plans: list[PlanFile], receipts: Mapping[int, ReceiptHead], fingerprint: str) -> None:
    """Raises: StoreError: a plan is not the one that its shards were made from; stores of before do not say.

    Args:
      fingerprint: of the store; a shard of another one is refused when it is read.
    """
    for plan in plans:
        heads = [receipts[shard] for shard in plan.shards if shard in receipts]
        strange = {head.plan for head in heads if head.fingerprint == fingerprint} - {"", plan.digest}
        if strange:
            raise StoreError(
                f"store '{storage}': {plan.key} was edited: its sha256 is {plan.digest}, receipts of its shards say "
                f"{min(strange)}; restore it from a copy, for the audio of any label may be wrong"
            )
