"""Receipts: the small JSON that commits a shard, and the only way bytes get into a store.

Commit = digest the encoded shard -> put it under its content name -> put-if-absent the receipt. Whoever's
receipt is there first has committed. A shard file without a receipt is garbage and never read.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar, get_origin, get_type_hints

from softlabels.digests import canonical_json, is_sha256, parse_json, sha256_of_bytes
from softlabels.errors import StoreError
from softlabels.records.quarantine import MOST_WINDOWS, Quarantined
from softlabels.storage.protocol import Storage

Outcome = Literal["committed", "equal", "equivalent", "different"]
MOST_NOTE = 1000  # characters
MOST_BYTES = 64 << 20  # of a receipt; a clip takes 250
_Kind = TypeVar("_Kind", bound="ReceiptHead")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptHead:
    """What reading a store needs to know of a committed shard: a receipt without what its labels were made from.

    digest, size: sha256 and bytes of the shard file; rows: labelled windows in it.
    quarantined: the planned windows that are not in it.
    numerics_class: digest of the teacher's answer to fixed synthetic windows.
    plan: sha256 of the plan file that has the shard; "" in stores of before.
    """

    shard: int
    fingerprint: str
    digest: str
    size: int
    rows: int
    quarantined: tuple[Quarantined, ...]
    numerics_class: str
    plan: str = ""

    @property
    def file(self) -> str:
        """The key of the shard file, named by content."""
        return f"shards/{self.shard:05d}-{self.digest[:12]}.parquet"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a receipt, or only its head. Raises: ValueError, TypeError, KeyError: damaged."""
        content = parse_json(data)
        content.setdefault("plan", "")  # in stores of before
        if content.keys() != _KINDS.keys():
            raise ValueError(f"expected the fields {', '.join(sorted(_KINDS))}, got {', '.join(sorted(content))}")
        for name, kind in _KINDS.items():  # a store may have a million receipts: no more work for each than this
            if type(content[name]) is not kind:
                raise ValueError(f"expected {kind.__name__} as {name}")
        for name in ("digest", "fingerprint", "numerics_class", "plan"):
            if not is_sha256(content[name]) and (name != "plan" or content[name]):
                raise ValueError(f"{name}: expected 64 hexadecimal digits, got {content[name][:70]!r}")
        for name in ("shard", "size", "rows"):
            if not 0 <= content[name] < _MOST[name]:
                raise ValueError(f"{name}: expected 0 to {_MOST[name] - 1}, got {content[name]}")
        content["quarantined"] = tuple([Quarantined.from_json(entry) for entry in content["quarantined"]])
        if cls is ReceiptHead:
            return cls(**{name: content[name] for name in cls.__slots__})
        _check_details(content)
        return cls(**content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(ReceiptHead):
    """The full receipt of one committed shard.

    audio: clip_id -> {"file": sha256 of the audio file, "pcm": sha256 of the clip's samples as the teacher
      got them}, so that a mismatch years later names its stage; and "note", where something is odd about the audio.
    environment: package versions.
    """

    audio: dict[str, dict[str, str]]
    environment: dict[str, str]

    @property
    def notes(self) -> dict[str, str]:
        """clip_id -> what is odd about its audio, of those clips that something is odd about."""
        return {clip_id: found["note"] for clip_id, found in self.audio.items() if "note" in found}

    @property
    def identity(self) -> str:
        """sha256 of the receipt itself."""
        return sha256_of_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """As written; one of before, without a plan, as it was."""
        fields = dataclasses.asdict(self)
        return canonical_json(fields if self.plan else {k: v for k, v in fields.items() if k != "plan"}) + b"\n"


_MOST = {"shard": MOST_WINDOWS, "rows": MOST_WINDOWS, "size": 1 << 50}
# of a receipt's fields, in JSON
_KINDS = {name: get_origin(kind) or kind for name, kind in get_type_hints(Receipt).items()} | {"quarantined": list}


def _check_details(content: dict[str, Any]) -> None:
    """Raises: ValueError, AttributeError: what a receipt has beyond its head has not its form."""
    for clip_id, found in content["audio"].items():
        note = found.get("note", "")
        if found.keys() - {"note"} != {"file", "pcm"} or not is_sha256(found["file"]) or not is_sha256(found["pcm"]):
            raise ValueError(f"audio of {clip_id[:40]!r}: expected file and pcm with 64 hexadecimal digits each")
        if not isinstance(note, str) or len(note) > MOST_NOTE:
            raise ValueError(f"note on {clip_id[:40]!r}: expected a text of {MOST_NOTE} characters at most")
    if not all(isinstance(version, str) for version in content["environment"].values()):
        raise ValueError("environment: expected texts")


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


_NAME = re.compile(r"receipts/([0-9]{5}|[1-9][0-9]{5,9})\.g(0|[1-9][0-9]{0,8})\.json")  # no other names count


def latest_receipt_keys(storage: Storage) -> dict[int, str]:
    """shard -> key of its receipt with the highest generation."""
    latest: dict[int, tuple[int, str]] = {}
    for key, size in storage.list("receipts").items():
        if match := _NAME.fullmatch(key):
            if size > MOST_BYTES:
                raise StoreError(f"'{storage}': {key} has {size:,} bytes, expected at most {MOST_BYTES:,}; delete it")
            shard, generation = int(match[1]), int(match[2])
            latest[shard] = max(latest.get(shard, (-1, "")), (generation, key))
    return {shard: key for shard, (_, key) in sorted(latest.items())}


def read_receipt(storage: Storage, key: str) -> Receipt:
    """The receipt under a key. Raises: StoreError: damaged."""
    return _parse(storage, key, storage.get(key), Receipt)


def read_receipt_heads(storage: Storage, keys: Sequence[str]) -> tuple[list[ReceiptHead], str]:
    """The heads of many receipts, and one sha256 over the bytes of all of them, from one reading.

    Heads only, for a store may have a million clips, whose digests nobody needs at once.
    Raises: StoreError: one is damaged.
    """
    heads, total = [], hashlib.sha256()
    for key, data in zip(keys, storage.get_many(keys), strict=True):
        heads.append(_parse(storage, key, data, ReceiptHead))
        total.update(hashlib.sha256(data).digest())
    return heads, total.hexdigest()


def _parse(storage: Storage, key: str, data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        receipt = kind.from_bytes(data)
        if not key.startswith(f"receipts/{receipt.shard:05d}.g"):
            raise ValueError(f"it is the receipt of shard {receipt.shard}")
        return receipt
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise StoreError(
            f"'{storage}': {key} is damaged: {e}; delete it and run `softlabels run` again to label its shard again"
        ) from e


def success_bytes(
    plan: int, receipts: Sequence[ReceiptHead], contents: Iterable[bytes], plan_digest: str = ""
) -> bytes:
    """What `_SUCCESS-NNNN.json` says of the receipts of a plan's shards.

    Args:
      receipts: in the order of the shards; contents: their bytes, taken one at a time.
      plan_digest: sha256 of the plan file; "" leaves it out, as softlabels once did.
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
        **({"plan_digest": plan_digest} if plan_digest else {}),
    }
    return canonical_json(success) + b"\n"
