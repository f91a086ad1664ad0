"""The embedding head: a linear projector beside a student, from one of its layers to a teacher's embedding.

It is there to train with: the student inside is the one that was given, and is taken out again as it is. Not here: the
loss (cosine.py).
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

RIDGE = 1e-2  # of the mean variance of the features


@keras.saving.register_keras_serializable(package="softlabels")
class StudentWithHead(keras.Model):
    """A student, and a projector of one of its layers; its outputs are {"labels", "embedding"}.

    student: the model that was given, whose weights are trained in place. projector: the head, a Dense layer.
    """

    def __init__(self, student: keras.Model, layer: str, width: int, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.student, self.layer_name, self.width = student, layer, int(width)
        self.tapped = _tapped(student, layer)
        self.projector = keras.layers.Dense(self.width, name="embedding_head", dtype="float32")
        self.projector.build((None, self.tapped.outputs[1].shape[-1]))
        self.built = True

    def build(self, input_shape: Any) -> None:
        """All weights are there from the start."""

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        """What the student gives, and (batch, width) float32 for the teacher's embedding."""
        labels, features = self.tapped(inputs, training=training)
        return {"labels": labels, "embedding": self.projector(pooled(features))}

    def get_config(self) -> dict[str, Any]:
        """The student in full, and the arguments."""
        student = keras.saving.serialize_keras_object(self.student)
        return {"name": self.name, "student": student, "layer": self.layer_name, "width": self.width}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any | None = None) -> "StudentWithHead":
        """The model of a config; its weights are loaded after."""
        student = keras.saving.deserialize_keras_object(config["student"], custom_objects=custom_objects)
        return cls(**{**config, "student": student})


def with_embedding_head(
    student: keras.Model,
    *,
    layer: str | keras.layers.Layer,
    width: int,
    batches: Iterable[Any] | None = None,
    ridge: float = RIDGE,
) -> StudentWithHead:
    """A student that also learns the teacher's embedding, through a linear projector that only training has.

        model = softlabels.with_embedding_head(student, layer="pooled", width=labels.embedding_width)
        model.compile("adam", loss={"labels": loss, "embedding": softlabels.EmbeddingLoss(0.2)})
        model.fit(softlabels.make_dataset(labels, embedding=True))
        student = softlabels.strip_embedding_head(model)

    Args:
      student: a functional or built sequential model of one output. It is not copied: it trains inside.
      layer: of the student, or its name; what it gives is projected, its mean where that is (batch, ..., channels).
      width: of the teacher's embedding.
      batches: of `(x, {"labels", "embedding"})`, one pass; the projector begins with the ridge regression of their
        embeddings on what the layer gives: a student that is trained already is not pulled off by a random one.
      ridge: of that regression, as a share of the features' mean variance.
    Returns: a model whose outputs are {"labels": the student's, "embedding": (batch, width)}.
    Raises: ValueError: a student or a layer that does not fit, a width below 1, batches without an embedding.
    Example:
      >>> import keras
      >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="last"), keras.layers.Dense(3)])
      >>> softlabels.with_embedding_head(student, layer="last", width=5)(np.zeros((2, 4)))["embedding"].shape
      TensorShape([2, 5])
    """
    if width < 1 or not ridge > 0:
        raise ValueError(f"with_embedding_head: expected width from 1 up and ridge above 0; got {width} and {ridge}")
    model = StudentWithHead(student, layer if isinstance(layer, str) else layer.name, width)
    if batches is not None:
        model.projector.set_weights(_regression(model, batches, ridge))
    return model


def strip_embedding_head(model: StudentWithHead) -> keras.Model:
    """The student alone, as trained, bit for bit: the very model that `with_embedding_head` was given.

    Raises: ValueError: a model without such a head.
    Example:
      >>> import keras
      >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="last")])
      >>> softlabels.strip_embedding_head(softlabels.with_embedding_head(student, layer="last", width=5)) is student
      True
    """
    if not isinstance(model, StudentWithHead):
        raise ValueError(
            f"strip_embedding_head: expected a model by with_embedding_head; got {type(model).__name__} {model!r:.80}"
        )
    return model.student


def pooled(features: Any) -> Any:
    """(batch, ..., channels) -> (batch, channels), the mean over what is between."""
    between = tuple(range(1, len(features.shape) - 1))
    return ops.mean(features, axis=between) if between else features


def _tapped(student: keras.Model, layer: str) -> keras.Model:
    """The student with two outputs: its own, and that of one of its layers. Raises: ValueError: they do not fit."""
    who = "with_embedding_head"
    try:
        outputs = student.outputs
        names = [each.name for each in student.layers]
    except (AttributeError, ValueError) as e:
        raise ValueError(
            f"{who}: expected a functional or a built sequential model; got {type(student).__name__}; give its first "
            "layer a keras.Input, or call student.build(shape), and a model class of your own a functional core"
        ) from e
    if not outputs or len(outputs) != 1:
        raise ValueError(f"{who}: expected a built student of one output; got {len(outputs or [])}")
    if layer not in names:
        raise ValueError(f"{who}: expected a layer of the student; got {layer!r}; it has {', '.join(names)}")
    features = student.get_layer(layer).output
    if not hasattr(features, "shape") or len(features.shape) < 2 or features.shape[-1] is None:
        raise ValueError(f"{who}: expected a layer that gives (batch, ..., channels); {layer!r} gives {features}")
    inputs = student.inputs[0] if isinstance(student, keras.Sequential) else student.input  # as it wants them
    return keras.Model(inputs, [outputs[0], features])


def _regression(model: StudentWithHead, batches: Iterable[Any], ridge: float) -> list[np.ndarray]:
    """Kernel (features, width) and bias (width,) of the ridge regression of unit embeddings on features, in float64.

    Source: Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634; the intercept is not held back.
    """
    found, wanted = [], []
    for batch in batches:
        x, targets = batch[0], batch[1]
        if not isinstance(targets, dict) or "embedding" not in targets:
            raise ValueError(
                "with_embedding_head: expected batches of (x, {'labels', 'embedding'}); got none: make_dataset(labels, "
                "embedding=True) gives them"
            )
        features = pooled(model.tapped(x, training=False)[1])
        found.append(ops.convert_to_numpy(features).astype(np.float64))
        wanted.append(ops.convert_to_numpy(targets["embedding"]).astype(np.float64))
    x, t = np.concatenate(found or [np.zeros((0, 1))]), np.concatenate(wanted or [np.zeros((0, model.width))])
    length = np.linalg.norm(t, axis=1)
    rows = np.isfinite(length) & (length > 0) & np.isfinite(x).all(axis=1)
    if rows.sum() < 2:
        raise ValueError(f"with_embedding_head: expected batches with 2 embeddings or more; got {rows.sum()}")
    x, t = x[rows], t[rows] / length[rows, None]
    mean, centre = x.mean(axis=0), t.mean(axis=0)
    x, t = x - mean, t - centre
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + np.finfo(np.float64).tiny
    kernel = np.linalg.solve(gram, x.T @ t)
    return [kernel.astype(np.float32), (centre - mean @ kernel).astype(np.float32)]
