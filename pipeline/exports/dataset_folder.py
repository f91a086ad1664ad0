"""A dataset folder for Hugging Face: the store itself, less what only this machine needs, with a dataset card.

call                                                                 gives
softlabels.open("OUT")                                               the store: it is still one
datasets.load_dataset("OUT")                                         its rows: the card says which files are data
datasets.load_dataset("parquet", data_files="OUT/shards/*.parquet")  the same, without the card
"""

import json
from collections.abc import Callable
from pathlib import Path

from pipeline.exports.written import Exported
from softlabels.errors import StoreError
from softlabels.store.components import components_key
from softlabels.store.reader import StoreReader

HUB_FILES = 10_000  # in a folder, as the Hub recommends
_TOP = {"store.json", "classes.txt", "quarantine.csv", "requirements.txt"}
_CARD = """\
---
pretty_name: {name}
tags:
- soft-labels
- knowledge-distillation
- audio-classification
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: shards/*.parquet
---
{store}
## Reading it

```python
import datasets
import softlabels

rows = datasets.load_dataset("parquet", data_files="shards/*.parquet", split="train")  # {rows:,} windows
store = softlabels.open(".")  # the same rows, held against their digests
```

{values} of `classes.txt`, {classes:,} names. Rows are keyed by `clip_id` and `window_index`; `start_s`
and `end_s` are seconds in the recording, which is not part of this dataset.
"""


def write_dataset_folder(store: StoreReader, folder: Path, on_windows: Callable[[int], None]) -> Exported:
    """Copy what counts (current shards, digests checked; plans, receipts) and write the card."""
    storage = store.storage
    # A run may be adding to the store. It writes plan, shard, receipt and _SUCCESS in this order; looked for the other
    # way round, whatever is copied has what it needs.
    tops = sorted(name for name in storage.names() if name in _TOP or name.startswith("_SUCCESS-"))
    store = StoreReader(storage)  # as it is now
    heads, keys = store.receipts, store.receipt_keys
    components = [components_key(store.spec.component_digest)] if store.spec.components else []
    for key in [*tops, *keys.values(), *storage.list("plan"), *components]:
        try:
            _put(folder / key, storage.get(key))
        except FileNotFoundError as e:
            raise StoreError(f"store '{storage}': {key} is gone; restore it from a copy") from e
    for shard, receipt in heads.items():
        _put(folder / receipt.file, store.shard_bytes(shard))
        on_windows(receipt.rows)
    rows = sum(receipt.rows for receipt in heads.values())
    _put(folder / "README.md", dataset_card(store, rows).encode())
    notes = ["say in README.md under which licence these labels may be used: a line `license: ...` below `---`"]
    if len(heads) > HUB_FILES:
        notes.append(f"{len(heads):,} shards: the Hub wants at most {HUB_FILES:,} files a folder")
    return Exported(rows=rows, notes=tuple(notes))


def dataset_card(store: StoreReader, rows: int) -> str:
    """README.md: what the Hub's viewer and `load_dataset` read between the dashes, then the store's own card."""
    own = store.storage.get("README.md").decode(errors="replace") if "README.md" in store.storage.names() else ""
    dense = store.spec.layout == "dense"
    return _CARD.format(
        name=json.dumps(f"Soft labels by {store.spec.teacher}", ensure_ascii=False),
        size=_size_category(rows),
        store=own or f"# Soft labels by {store.spec.teacher}\n",
        rows=rows,
        values="`probabilities` are in the order" if dense else "`class_index` counts from 0 in the order",
        classes=len(store.classes),
    )


def _size_category(rows: int) -> str:
    """The Hub's names: n<1K, 1K<n<10K, ..."""
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    above = sum(rows >= 10 ** (3 + i) for i in range(len(steps) - 1))
    return f"{steps[above - 1]}<n<{steps[above]}" if above else "n<1K"


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
