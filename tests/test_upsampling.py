"""Rare classes come more often: at least a share of the most frequent one, by people's labels or else the teacher's."""

import numpy as np
import pytest
from conftest import Corpus, label

import softlabels
from softlabels.batches.options import BatchOptions
from softlabels.batches.sampling import upsampled
from softlabels.batches.stream import Batches

NAN = np.nan


def raised(hard: list, soft: list | None = None, ratio: float = 0.5, weights: list | None = None) -> np.ndarray:
    half = np.array(hard, np.float32)
    packed = np.concatenate([half, np.full_like(half, 0.9) if soft is None else np.array(soft, np.float32)], axis=1)
    even = np.ones(len(half)) if weights is None else np.array(weights, np.float64)
    return upsampled(even, lambda rows: packed[rows], half.shape[1], ratio)


def one_hot(*counts: int) -> list:
    return np.repeat(np.eye(len(counts)), counts, axis=0).tolist()


def test_a_rare_class_is_raised_to_its_share_of_the_most_frequent() -> None:
    # 8, 4 and 1 rows; half of 8 is 4: the second has that already, the third needs it four times.
    assert raised(one_hot(8, 4, 1)).tolist() == [1] * 12 + [4]
    assert raised(one_hot(8, 4, 1), ratio=1).tolist() == [1] * 8 + [2] * 4 + [8]
    assert raised(one_hot(8, 4, 1), ratio=0.1).tolist() == [1] * 13


def test_a_row_comes_as_often_as_the_rarest_of_its_classes_has_to() -> None:
    hard = [*one_hot(8, 0, 0), [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]]
    # 9, 3 and 1 rows; of 9 for all: factors 1, 3 and 9; a row of none stays.
    assert raised(hard, ratio=1).tolist() == [1] * 8 + [3, 3, 9, 1]


def test_the_teacher_speaks_where_nobody_annotated_a_class() -> None:
    hard = [[1, 0], [1, NAN], [NAN, NAN], [NAN, NAN], [1, 0]]
    soft = [[0.1, 0.9], [0.1, 0.49], [0.2, 0.5], [NAN, NAN], [NAN, NAN]]
    # There: rows 0, 1, 4 of the first class; row 2 of the second, by the teacher; what he has not scored is not there.
    assert raised(hard, soft, ratio=1).tolist() == [1, 1, 3, 1, 1]


def test_rows_are_counted_as_often_as_they_would_be_drawn() -> None:
    # A class of 4 rows that are drawn a quarter as often each is as frequent as one of a single row.
    np.testing.assert_allclose(raised(one_hot(4, 1), ratio=1, weights=[0.25] * 4 + [1]), [0.25] * 4 + [1])
    np.testing.assert_allclose(
        raised(one_hot(2, 4), ratio=1, weights=[1, 1, 0.25, 0.25, 0.25, 0.25]), [1, 1] + [0.5] * 4
    )


def test_classes_that_never_come_and_rows_without_weight_change_nothing() -> None:
    assert raised([[1, 0], [1, 0]], ratio=1).tolist() == [1, 1]
    assert raised([[0, 0], [NAN, NAN]], [[NAN, NAN], [0.2, 0.1]], ratio=1).tolist() == [1, 1]
    assert raised(one_hot(3, 1), ratio=1, weights=[1, 1, 1, 0]).tolist() == [1, 1, 1, 0]


def test_blocks_of_rows_are_as_one(monkeypatch) -> None:
    generator = np.random.default_rng(0)
    hard = (generator.random((50, 7)) < 0.2).astype(np.float32)
    weights = generator.random(50).tolist()
    at_once = raised(hard, ratio=0.7, weights=weights)
    monkeypatch.setattr(
        "softlabels.batches.sampling.row_blocks", lambda n, _: (slice(i, i + 3) for i in range(0, n, 3))
    )
    np.testing.assert_allclose(raised(hard, ratio=0.7, weights=weights), at_once, rtol=1e-12)


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> softlabels.JoinedLabels:
    """16 windows of Alpha in four clips, one of Beta in a clip of its own, two of none."""
    corpus = Corpus(tmp_path_factory.mktemp("upsample"))
    lines = ["clip_id,path,label"]
    for i, (seconds, name) in enumerate([(0.4, "Aus aus_Alpha")] * 4 + [(0.1, "Bus bus_Beta"), (0.2, "noise")]):
        corpus.write_audio(f"c{i}.wav", seconds, seed=i)
        lines.append(f"c{i},c{i}.wav,{name}")
    corpus.write_manifest("\n".join(lines) + "\n")
    return label(corpus).join(corpus.manifest)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_is_as_long_as_ever_and_has_the_rare_class_often_enough(labels, ratio: float, shuffle: bool) -> None:
    batches = Batches(labels, BatchOptions(batch_size=50, upsample=ratio, shuffle=shuffle, seed=3))
    drawn = np.concatenate([batches.rows(epoch) for epoch in range(400)])  # a batch is an epoch
    assert len(drawn) == 400 * len(labels)
    assert (batches.rows(5) == batches.rows(5)).all()
    counts = np.bincount(drawn, minlength=len(labels)) / 400
    alpha, beta, none = counts[:16].sum(), counts[16], counts[17:].sum()
    assert beta / alpha == pytest.approx(ratio, rel=0.1)
    assert none / alpha == pytest.approx(2 / 16, rel=0.15)


def test_it_multiplies_the_sampling_weights(labels) -> None:
    own = labels.sampling_weights()  # each clip 1: four of Alpha, one of Beta
    options = {"batch_size": 50, "sampling_weights": own, "shuffle": True}
    batches = Batches(labels, BatchOptions(**options, upsample=1.0))
    counts = np.bincount(np.concatenate([batches.rows(epoch) for epoch in range(400)]), minlength=len(labels))
    assert counts[16] / counts[:16].sum() == pytest.approx(1, rel=0.1)
    within = counts[:4] / counts[:4].sum()
    np.testing.assert_allclose(within, own[:4], atol=0.05)
    for other in (0.0, 0.5):
        with pytest.raises(ValueError, match="set_state: expected (weights|upsample)"):
            batches.position_of(Batches(labels, BatchOptions(**options, upsample=other)).state(0))
