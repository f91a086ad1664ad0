"""The embedding loss and head on whatever backend Keras runs: rows, training, saving, stripping. Prints JSON.

KERAS_BACKEND=jax python tests/loss_embedding.py FOLDER
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from softlabels.loss.distillation import DistillationLoss
from softlabels.loss.embedding.cosine import EmbeddingLoss
from softlabels.loss.embedding.head import strip_embedding_head, with_embedding_head


def made(rows=32, width=5):
    """-> x (rows, 6, 4), {"labels": (rows, 6), "embedding": (rows, width) float16}, three of them odd."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 6, 4)).astype(np.float32)
    embedding = np.maximum(x.mean(axis=1) @ rng.normal(size=(4, width)) + 1, 0).astype(np.float16)
    embedding[0], embedding[1], embedding[2, 1] = np.nan, 0, np.inf
    return x, {"labels": rng.integers(0, 2, (rows, 6)).astype(np.float32), "embedding": embedding}


def reference(embedding, output):
    """(rows,) float64."""
    t, p = embedding.astype(np.float64), output.astype(np.float64)
    with np.errstate(invalid="ignore"):
        rows = 1 - (t * p).sum(axis=1) / np.linalg.norm(t, axis=1) / np.linalg.norm(p, axis=1)
    return np.where(np.isfinite(t).all(axis=1) & t.any(axis=1), rows, 0)


def main():
    """Train, save, load, strip."""
    keras.utils.set_random_seed(0)
    x, y = made()
    layers = [keras.layers.Conv1D(8, 3, name="last"), keras.layers.GlobalMaxPooling1D(), keras.layers.Dense(3)]
    student = keras.Sequential([keras.Input((6, 4)), *layers])
    model = with_embedding_head(student, layer="last", width=5)
    fitted = with_embedding_head(student, layer="last", width=5, batches=[(x, y)])
    loss = {"labels": DistillationLoss(0.5, 1.0, None, "sigmoid", True), "embedding": EmbeddingLoss(0.5)}
    model.compile(keras.optimizers.SGD(0.05), loss)
    output = np.asarray(model.predict(x, verbose=0)["embedding"])
    rows = keras.ops.convert_to_numpy(
        EmbeddingLoss(reduction=None)(y["embedding"], keras.ops.convert_to_tensor(output))
    )
    began = [float(EmbeddingLoss()(y["embedding"], each)) for each in (fitted(x)["embedding"], output)]
    losses = model.fit(x, y, batch_size=8, epochs=5, verbose=0).history["embedding_loss"]
    path = Path(sys.argv[1]) / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    alone = [strip_embedding_head(each).predict(x, verbose=0) for each in (model, loaded)]
    report = {
        "began": began,
        "row_error": float(np.abs(rows - reference(y["embedding"], output)).max()),
        "losses": losses,
        "same": bool(np.array_equal(*alone)),
        "finite": bool(np.isfinite(alone[0]).all()),
        "beside": float(np.abs(alone[0] - np.asarray(model.predict(x, verbose=0)["labels"])).max()),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
