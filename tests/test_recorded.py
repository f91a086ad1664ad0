"""What was written before is written and read the same today: digests of shards, a store and a saved join, on record.

`recorded/` was made by the commit before the code moved into rooms; `make_recorded.py` there makes it again.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import REPOSITORY

import softlabels

RECORDED = Path(__file__).parent / "recorded"
sys.path.insert(0, str(RECORDED))
import make_recorded  # noqa: E402

EXPECTED = json.loads((RECORDED / "digests.json").read_text())


@pytest.mark.parametrize("name", EXPECTED["content"])
def test_the_corpus_is_labelled_as_it_was(name: str, tmp_path: Path) -> None:
    store = make_recorded.label(name, tmp_path / "store", REPOSITORY)
    assert make_recorded.content_digest(store) == EXPECTED["content"][name]
    if pa.__version__ == EXPECTED["pyarrow"]:  # another one may lay a file out differently
        assert make_recorded.file_digests(store) == EXPECTED["files"][name]


def test_a_store_made_before_opens_and_joins_to_the_same_rows(tmp_path: Path) -> None:
    store = softlabels.open(RECORDED / "store")
    labels = store.join(RECORDED / "data_manifest.csv", missing="hard", root=RECORDED, cache_dir=tmp_path)
    assert make_recorded.rows_digest(labels) == EXPECTED["rows"]


def test_a_join_saved_before_opens_with_the_same_rows() -> None:
    labels = softlabels.load_labels(RECORDED / "labels", root=RECORDED)
    assert make_recorded.rows_digest(labels) == EXPECTED["saved_rows"]
    crops = labels.y_true_at(["c3", "c0"], [0.05, 0.125])
    assert np.array_equal(crops, np.array(EXPECTED["crops"], np.float32), equal_nan=True)
