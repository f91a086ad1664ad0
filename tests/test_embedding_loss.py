"""The embedding loss against a float64 reference, and the head: trained, saved, stripped, begun by regression."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import softlabels
from softlabels.loss.embedding.head import pooled
from softlabels.loss.embedding.rows import embedding_rows

WIDTH = 7


def reference(embedding: np.ndarray, student: np.ndarray) -> np.ndarray:
    """(batch,) float64, row by row."""
    rows = []
    for t, p in zip(embedding.astype(np.float64), student.astype(np.float64), strict=True):
        if not np.isfinite(t).all() or not t.any() or not p.any():
            rows.append(0.0)
        else:
            t, p = t / np.abs(t).max(), p / np.abs(p).max()
            rows.append(1 - t @ p / np.linalg.norm(t) / np.linalg.norm(p))
    return np.array(rows)


def made_rows(seed: int, rows: int = 12, width: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings as BirdNET's are, some missing or odd, and what a student makes of them."""
    rng = np.random.default_rng(seed)
    embedding = np.maximum(rng.normal(0.3, 0.5, (rows, width)), 0).astype(np.float32)
    student = (embedding * rng.uniform(0, 3, (rows, 1)) + rng.normal(0, 1, (rows, width))).astype(np.float32)
    embedding[1] = np.nan
    embedding[2, 3] = np.inf
    embedding[3] = 0
    student[4] = 0
    student[5] = embedding[5] * 1e-30  # as close as can be, and small
    embedding[6] *= 1e30
    student[7] = -embedding[7]
    embedding[8], student[8] = np.eye(2, width)
    return embedding, student


def test_worked_by_hand() -> None:
    # cos((3, 4), (4, 3)) = 24 / 25; at right angles 0; opposite -1
    embedding, student = np.float32([[3, 4], [1, 0], [2, 2]]), np.float32([[4, 3], [0, 5], [-1, -1]])
    np.testing.assert_allclose(embedding_rows(keras.ops, embedding, student), [0.04, 1, 2], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_row_equals_a_float64_reference(dtype: str) -> None:
    embedding, student = made_rows(0)
    embedding, student = (tf.cast(each, dtype) for each in (embedding, student))
    got = softlabels.EmbeddingLoss(reduction=None)(embedding, student).numpy()
    expected = reference(*(tf.cast(each, tf.float32).numpy() for each in (embedding, student)))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=1e-7)
    assert (got[[1, 2, 3]] == 0).all()


def test_the_gradient_is_the_references_and_never_nan() -> None:
    embedding, student = made_rows(1, width=9)
    x = tf.Variable(student)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(embedding_rows(keras.ops, embedding, x))
    gradient = tape.gradient(total, x).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[[1, 2, 3, 4]] == 0).all(), "of rows that are left out"
    for row in (0, 7, 9, 10):
        for column in range(9):
            step = np.zeros((1, 9))
            step[0, column] = 1e-6
            wide = student[row : row + 1].astype(np.float64)
            slope = reference(embedding[row : row + 1], wide + step) - reference(embedding[row : row + 1], wide - step)
            assert gradient[row, column] == pytest.approx(slope[0] / 2e-6, rel=1e-4, abs=1e-6)


def test_a_student_that_has_diverged_shows_and_a_missing_row_hides_nothing_else() -> None:
    embedding, student = made_rows(2, width=5)
    student[0, 1] = np.nan
    rows = softlabels.EmbeddingLoss(reduction=None)(embedding, student).numpy()
    assert np.isnan(rows[0])
    assert np.isfinite(rows[1:]).all()


def test_weights_scale_it_and_left_out_rows_count_in_the_mean_as_keras_has_it() -> None:
    embedding, student = made_rows(3)
    expected = reference(embedding, student)
    loss, weights = softlabels.EmbeddingLoss(0.25), np.linspace(0, 2, 12, dtype=np.float32)
    assert float(loss(embedding, student)) == pytest.approx(0.25 * expected.mean(), rel=1e-5)
    weighted = float(loss(embedding, student, sample_weight=weights))
    assert weighted == pytest.approx(0.25 * (expected * weights).mean(), rel=1e-5)


def test_it_survives_its_config_and_refuses_what_makes_no_sense() -> None:
    loss = softlabels.EmbeddingLoss(0.5, reduction="sum", name="mine")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
    assert (again.weight, again.reduction, again.name) == (0.5, "sum", "mine")
    for weight in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="expected a finite weight of 0 or more"):
            softlabels.EmbeddingLoss(weight)
    for shape in ((4, 3), (4,), (4, 2, 2)):
        with pytest.raises(ValueError, match=r"expected embeddings and outputs of one width, .*embedding=True"):
            softlabels.EmbeddingLoss()(np.zeros(shape, np.float32), np.zeros((4, 2), np.float32))


# The head


def student(kind: str = "functional") -> keras.Model:
    """Three classes of 6 x 4 inputs; its layer "last" gives (batch, 6, 8), "gap" (batch, 8)."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Conv1D(8, 3, padding="same", name="last"),
        keras.layers.BatchNormalization(),
        keras.layers.GlobalAveragePooling1D(name="gap"),
        keras.layers.Dense(3, name="top"),
    ]
    if kind == "sequential":
        return keras.Sequential([keras.Input((6, 4)), *layers])
    x = inputs = keras.Input((6, 4))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def data(rows: int = 24) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(rows, 6, 4)).astype(np.float32)
    embedding = np.maximum(x.mean(axis=1) @ rng.normal(size=(4, WIDTH)) + 1, 0).astype(np.float16)
    embedding[::5], embedding[1] = np.nan, 0
    labels = np.concatenate([rng.integers(0, 2, (rows, 3)), rng.random((rows, 3))], axis=1).astype(np.float32)
    return x, {"labels": labels, "embedding": embedding}


def compiled(model: keras.Model, rate: float = 0.05) -> keras.Model:
    loss = softlabels.DistillationLoss(0.5, 1.0, None, "sigmoid", True)
    losses = {"labels": loss, "embedding": softlabels.EmbeddingLoss(0.5)}
    model.compile(keras.optimizers.SGD(rate), losses, run_eagerly=True)  # traced, in `loss_embedding.py`
    return model


def test_a_student_trains_with_a_head_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    alone = student()
    before, (x, y) = [weight.copy() for weight in alone.get_weights()], data()
    answer = alone(x).numpy()
    model = compiled(softlabels.with_embedding_head(alone, layer="last", width=WIDTH))
    np.testing.assert_array_equal(model(x)["labels"], answer)
    assert model.count_params() == alone.count_params() + (8 + 1) * WIDTH
    history = model.fit(x, y, epochs=4, batch_size=12, verbose=0).history
    assert history["embedding_loss"][-1] < history["embedding_loss"][0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    for each in (model, loaded):
        stripped = softlabels.strip_embedding_head(each)
        assert type(stripped) is type(alone)
        assert [w.shape for w in stripped.get_weights()] == [w.shape for w in before]
        np.testing.assert_array_equal(stripped(x), each(x)["labels"])
        assert all(np.array_equal(a, b) for a, b in zip(stripped.get_weights(), alone.get_weights(), strict=True))
    assert softlabels.strip_embedding_head(model) is alone
    assert any(not np.array_equal(a, b) for a, b in zip(before, alone.get_weights(), strict=True))
    assert loaded.evaluate(x, y, verbose=0, return_dict=True) == model.evaluate(x, y, verbose=0, return_dict=True)


def test_a_sequential_student_comes_back_as_one(tmp_path: Path) -> None:
    alone, (x, _) = student("sequential"), data()
    model = softlabels.with_embedding_head(alone, layer="gap", width=WIDTH)
    model.save(tmp_path / "model.keras")
    again = softlabels.strip_embedding_head(keras.models.load_model(tmp_path / "model.keras"))
    assert (type(again), softlabels.strip_embedding_head(model)) == (keras.Sequential, alone)
    np.testing.assert_array_equal(again(x), alone(x))


def test_the_embedding_reaches_the_layers_below_and_leaves_the_top_alone() -> None:
    alone, (x, y) = student(), data()
    model = softlabels.with_embedding_head(alone, layer="gap", width=WIDTH)
    losses = {"labels": None, "embedding": softlabels.EmbeddingLoss()}
    model.compile(keras.optimizers.SGD(1.0), losses, run_eagerly=True)
    top, below = (alone.get_layer(name).get_weights()[0].copy() for name in ("top", "last"))
    model.fit(x, y, batch_size=24, epochs=1, verbose=0)
    np.testing.assert_array_equal(alone.get_layer("top").get_weights()[0], top)
    assert not np.array_equal(alone.get_layer("last").get_weights()[0], below)


def test_a_trained_students_head_begins_with_the_regression_of_the_embeddings() -> None:
    alone, (x, y) = student(), data(200)
    halves = [(x[a:b], {name: each[a:b] for name, each in y.items()}) for a, b in ((0, 90), (90, 200))]
    model = softlabels.with_embedding_head(alone, layer="last", width=WIDTH, batches=iter(halves), ridge=1e-6)
    features = np.asarray(keras.Model(alone.inputs, alone.get_layer("last").output)(x)).mean(axis=1, dtype=np.float64)
    target = y["embedding"].astype(np.float64)
    known = np.isfinite(target).all(axis=1) & target.any(axis=1)
    target = target[known] / np.linalg.norm(target[known], axis=1, keepdims=True)
    padded = np.concatenate([features[known], np.ones((known.sum(), 1))], axis=1)
    expected = np.linalg.lstsq(padded, target, rcond=None)[0]
    kernel, bias = model.projector.get_weights()
    np.testing.assert_allclose(np.vstack([kernel, bias]), expected, rtol=2e-3, atol=2e-3)
    held = softlabels.with_embedding_head(student(), layer="last", width=WIDTH, batches=halves, ridge=1e9)
    assert np.abs(held.projector.get_weights()[0]).max() < 1e-6
    np.testing.assert_allclose(held.projector.get_weights()[1], target.mean(axis=0), rtol=1e-4)
    random = softlabels.with_embedding_head(student(), layer="last", width=WIDTH)
    losses = [float(softlabels.EmbeddingLoss()(y["embedding"], each(x)["embedding"])) for each in (model, held, random)]
    assert losses == sorted(losses)


def test_pooling_takes_the_mean_of_everything_between() -> None:
    x = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    np.testing.assert_allclose(pooled(tf.constant(x)), x.mean(axis=(1, 2)), rtol=1e-5)


class OfOnesOwn(keras.Model):
    def call(self, x):
        return x


def two_outputs() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, [keras.layers.Dense(2, name="a")(inputs), keras.layers.Dense(3, name="b")(inputs)])


@pytest.mark.parametrize(
    ("model", "changed", "match"),
    [
        (student, {"layer": "gab"}, "expected a layer of the student; got 'gab'; it has .*last.*gap"),
        (student, {"layer": keras.layers.Dense(2, name="elsewhere")}, "got 'elsewhere'"),
        (student, {"width": 0}, "width from 1 up"),
        (student, {"ridge": 0.0}, "ridge above 0"),
        (student, {"batches": []}, "2 embeddings or more; got 0"),
        (student, {"batches": [(np.zeros((2, 6, 4)), np.zeros((2, 6)))]}, r"make_dataset\(labels, embedding=True\)"),
        (two_outputs, {"layer": "a"}, "a built student of one output; got 2"),
        (lambda: keras.Sequential([keras.layers.Dense(2, name="gap")]), {}, "functional or a built sequential model"),
        (OfOnesOwn, {}, "functional or a built sequential model; got OfOnesOwn"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_way_out(model, changed: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        softlabels.with_embedding_head(model(), **{"layer": "gap", "width": WIDTH, **changed})


def test_only_a_head_can_be_stripped() -> None:
    with pytest.raises(ValueError, match="expected a model by with_embedding_head; got Functional"):
        softlabels.strip_embedding_head(student())
