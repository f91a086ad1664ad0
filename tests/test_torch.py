"""softlabels.torch where Keras and TensorFlow are not installed, in processes of their own: losses and batches."""

import hashlib
import importlib.util
import json

import numpy as np
import pytest
from conftest import EMBEDDED, Corpus, label
from test_light import train
from test_loss_backends import run_on
from without import KERAS

from softlabels.batches.options import BatchOptions
from softlabels.batches.stream import Batches

pytestmark = [
    pytest.mark.backends,
    pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed; pip install torch"),
]


@pytest.fixture(scope="module")
def losses() -> dict:
    return run_on("torch", "torch_losses.py")


def test_values_and_gradients_over_the_whole_grid_equal_the_reference(losses: dict) -> None:
    cases, *errors = losses["eager"]
    assert cases == 336  # 2 activations, 4 class lists, 2 kinds of output, 3 types, 7 T
    assert max(errors) <= 1.0


@pytest.mark.parametrize("how", ["compiled", "compiled, alpha changed", "strided", "autocast", "float64", "hard only"])
def test_the_loss_is_the_same_however_it_is_called(losses: dict, how: str) -> None:
    assert max(losses[how]) <= 1.0


def test_what_is_missing_counts_as_in_keras(losses: dict) -> None:
    from softlabels.loss.distillation import DistillationLoss

    for case in losses["missing"]:
        loss = DistillationLoss(
            case["alpha"], case["temperature"], None, case["activation"], from_logits=True, reduction=None
        )
        y_true, y_pred = (np.array(case[name], np.float32) for name in ("y_true", "y_pred"))
        np.testing.assert_allclose(case["rows"], loss(y_true, y_pred), rtol=2e-6, atol=1e-7)


def test_a_student_loss_of_pytorch_is_called_as_it_stands(losses: dict) -> None:
    assert max(losses["student losses"].values()) <= 1e-6


def test_what_makes_no_sense_is_refused(losses: dict) -> None:
    for wanted, said in losses["refused"].items():
        assert wanted in said


def test_settings_come_from_labels_and_a_call_may_change_them(losses: dict) -> None:
    assert losses["for labels"] == {
        "settings": ["softmax", 0.3, 1.0, [0.5, 1.0, 0.25]],
        "given": [0.0, 2.0],
        "same rows": True,
        "alpha changed": True,
    }


def test_the_embedding_loss_and_its_gradient_equal_the_reference(losses: dict) -> None:
    assert losses["embedding"] == {"finite": True, "left out": 0.0, "weight": True, "refused": 2} | {
        "rows": pytest.approx(0, abs=3e-6),
        "gradient": pytest.approx(0, abs=1e-4),
    }


def test_mixup_of_tensors_is_that_of_arrays(losses: dict) -> None:
    assert losses["mixup"] == 0.0


def test_the_readmes_blocks_for_pytorch_run(corpus: Corpus) -> None:
    saved = label(corpus).join(corpus.manifest, canary=False).save(corpus.folder / "saved")
    report = run_on("torch", "torch_readme.py", str(saved))
    assert report == {"blocks": 3, "position": 10, "mine": 1, "rows": 14}


def test_the_readmes_light_list_trains_in_pytorch(store, tmp_path) -> None:
    report = train(store, tmp_path, list(KERAS))
    assert report["torch"] == "softlabels.torch"
    assert "torch" in report["loaded"]


@pytest.fixture(scope="module")
def batches(tmp_path_factory) -> tuple[dict, dict]:
    """What torch_batches.py reports, and what Batches says of the same labels."""
    from conftest import make_corpus

    corpus: Corpus = make_corpus(tmp_path_factory.mktemp("torch"))
    labels = label(corpus, teacher=EMBEDDED).join(corpus.manifest, canary=False)
    saved = labels.save(corpus.folder / "saved", embedding=True)
    expected = {}
    for name, options in {"plain": {}, "embedding": {"embedding": True}}.items():
        stream = Batches(labels, BatchOptions(batch_size=4, shuffle=True, seed=5, rate_hz=4000, **options))
        total = hashlib.sha256()
        for number in range(2 * len(stream)):
            for array in stream.arrays(number):
                total.update(array.tobytes())
        expected[name] = total.hexdigest()
    return run_on("torch", "torch_batches.py", str(saved)), expected


def test_the_stream_is_that_of_every_other_door_for_any_number_of_workers(batches) -> None:
    report, expected = batches
    ways = ["0", "1", "2", "4", "spawn", "stream", "cache-float32", "own loader"]
    assert report["digests"] == dict.fromkeys(ways, expected["plain"])


def test_embeddings_are_named_targets(batches) -> None:
    report, expected = batches
    assert report["embedding"] == [expected["embedding"], "torch.float16", ["embedding", "labels"]]


def test_tensors_lie_in_the_memory_of_the_arrays(batches) -> None:
    assert batches[0]["shared"] == [True, True]
    assert batches[0]["odd arrays"] == [[2.0, 1.0], [1.0, 2.0]], "read backwards, and locked"


def test_a_state_resumes_bit_for_bit(batches) -> None:
    report = batches[0]
    assert report["positions"] == list(range(9)), "what workers have made ahead does not count"
    assert report["resumed"] == [True] * 9
    assert report["abandoned"] == [True] * 3
    assert "set_state: expected seed 5, got 6" in report["other state"]


def test_errors_of_workers_name_the_clip_and_the_users_seed_is_left_alone(batches) -> None:
    report = batches[0]
    assert "AudioError" in report["error"]
    assert "clip 'c" in report["error"]
    assert report["seed untouched"] is True


def test_a_process_with_a_loader_that_lives_ends(batches) -> None:
    assert batches[0]["live"] == 4  # and run_on saw it end
    assert batches[0]["first epoch"] == 4, "a dataset that is gone through ends as well"


def test_a_student_learns_under_autocast_and_compile(batches) -> None:
    first, last = batches[0]["losses"]
    assert last < 0.9 * first
    assert json.loads(batches[0]["loaded"]) == []
