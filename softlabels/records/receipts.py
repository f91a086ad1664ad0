"""Receipts: the small JSON that commits a shard, and the only way bytes get into a store.

Commit = digest the encoded shard -> put it under its content name -> put-if-absent the receipt. Whoever's
receipt is there first has committed. A shard file without a receipt is garbage and never read.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeVar, get_origin, get_type_hints

from softlabels.digests import canonical_json, sha256_of_bytes
from softlabels.errors import StoreError
from softlabels.records.quarantine import Quarantined
from softlabels.storage.protocol import Storage

Outcome = Literal["committed", "equal", "equivalent", "different"]
_Kind = TypeVar("_Kind", bound="ReceiptHead")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptHead:
    """What reading a store needs to know of a committed shard: a receipt without what its labels were made from.

    digest, size: sha256 and bytes of the shard file; rows: labelled windows in it.
    quarantined: the planned windows that are not in it.
    numerics_class: digest of the teacher's answer to fixed synthetic windows.
    """

    shard: int
    fingerprint: str
    digest: str
    size: int
    rows: int
    quarantined: tuple[Quarantined, ...]
    numerics_class: str

    @property
    def file(self) -> str:
        """The key of the shard file, named by content."""
        return f"shards/{self.shard:05d}-{self.digest[:12]}.parquet"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a receipt, or only its head. Raises: ValueError, TypeError, KeyError: damaged."""
        content = json.loads(data.decode())
        if not isinstance(content, dict) or content.keys() != _KINDS.keys():
            got = ", ".join(sorted(content)) if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"expected the fields {', '.join(sorted(_KINDS))}, got {got}")
        for name, kind in _KINDS.items():  # a store may have a million receipts: no more work for each than this
            if type(content[name]) is not kind:
                raise ValueError(f"expected {kind.__name__} as {name}")
        content["quarantined"] = tuple([Quarantined(**entry) for entry in content["quarantined"]])
        return cls(**{name: content[name] for name in cls.__slots__} if cls is ReceiptHead else content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(ReceiptHead):
    """The full receipt of one committed shard.

    audio: clip_id -> {"file": sha256 of the audio file, "pcm": sha256 of the clip's samples as the teacher
      got them}, so that a mismatch years later names its stage.
    environment: package versions.
    """

    audio: dict[str, dict[str, str]]
    environment: dict[str, str]

    @property
    def identity(self) -> str:
        """sha256 of the receipt itself."""
        return sha256_of_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        return canonical_json(dataclasses.asdict(self)) + b"\n"


# of a receipt's fields, in JSON
_KINDS = {name: get_origin(kind) or kind for name, kind in get_type_hints(Receipt).items()} | {"quarantined": list}


def commit_shard(storage: Storage, data: bytes, receipt: Receipt, *, replacing: str = "") -> tuple[Outcome, Receipt]:
    """Put a shard and its receipt.

    Args:
      replacing: the digest (`Receipt.identity`) of a current receipt that may be replaced by a better one.
    Returns: what happened, and the receipt that counts now. "committed": this one. "equal": another one with the same
      digest. "different": one with another digest was there first, and stays.
    """
    storage.put(receipt.file, data)  # named by content, so this replaces nothing but equal or damaged bytes
    current = current_receipt(storage, receipt.shard)
    while current is None:
        if storage.put_if_absent(_receipt_key(receipt.shard, 0), receipt.to_bytes()):
            return "committed", receipt
        current = current_receipt(storage, receipt.shard)
    if current.digest == receipt.digest and current.quarantined == receipt.quarantined:
        return "equal", current
    if replacing and current.identity == replacing:
        commit_generation(storage, data, receipt)
        return "committed", receipt
    return "different", current


def current_receipt(storage: Storage, shard: int) -> Receipt | None:
    """The receipt of a shard that counts, or None."""
    generation = _next_generation(storage, shard) - 1
    return read_receipt(storage, _receipt_key(shard, generation)) if generation >= 0 else None


def commit_generation(storage: Storage, data: bytes, receipt: Receipt) -> None:
    """Let a shard replace the current one of the same number: the receipt of the next generation counts."""
    storage.put(receipt.file, data)
    shard, content = receipt.shard, receipt.to_bytes()
    while not storage.put_if_absent(_receipt_key(shard, _next_generation(storage, shard)), content):
        continue  # somebody else was faster with this generation


def _next_generation(storage: Storage, shard: int) -> int:
    """The first generation without a receipt; looks at this shard only, for a store may have a million."""
    generation = 0
    while storage.exists(_receipt_key(shard, generation)):
        generation += 1
    return generation


def _receipt_key(shard: int, generation: int) -> str:
    return f"receipts/{shard:05d}.g{generation}.json"


def latest_receipt_keys(storage: Storage) -> dict[int, str]:
    """shard -> key of its receipt with the highest generation."""
    latest: dict[int, tuple[int, str]] = {}
    for key in storage.list("receipts"):
        if match := re.fullmatch(r"receipts/(\d+)\.g(\d+)\.json", key):
            shard, generation = int(match[1]), int(match[2])
            latest[shard] = max(latest.get(shard, (-1, "")), (generation, key))
    return {shard: key for shard, (_, key) in sorted(latest.items())}


def read_receipt(storage: Storage, key: str) -> Receipt:
    """The receipt under a key. Raises: StoreError: damaged."""
    return _parse(storage, key, storage.get(key), Receipt)


def read_receipt_heads(storage: Storage, keys: Sequence[str]) -> Iterator[ReceiptHead]:
    """The heads of many receipts: a store may have a million clips, whose digests nobody needs at once.

    Raises: StoreError: one is damaged.
    """
    for key, data in zip(keys, storage.get_many(keys), strict=True):
        yield _parse(storage, key, data, ReceiptHead)


def _parse(storage: Storage, key: str, data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return kind.from_bytes(data)
    except (ValueError, TypeError, KeyError) as e:
        raise StoreError(
            f"'{storage}': {key} is damaged: {e}; delete it and run `softlabels run` again to label its shard again"
        ) from e


def success_bytes(plan: int, receipts: Sequence[ReceiptHead], contents: Iterable[bytes]) -> bytes:
    """What `_SUCCESS-NNNN.json` says of the receipts of a plan's shards.

    Args:
      receipts: in the order of the shards; contents: their bytes, taken one at a time.
    """
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    success = {
        "plan": plan,
        "shards": len(receipts),
        "rows": sum(receipt.rows for receipt in receipts),
        "quarantined": sum(entry.windows for receipt in receipts for entry in receipt.quarantined),
        "receipts": digest.hexdigest(),
    }
    return canonical_json(success) + b"\n"
