"""The loss that birdnet-stm32 published, as printed: what ours is compared with."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="benchmarks")
class PublishedLoss(keras.losses.Loss):
    """birdnet-stm32's loss as printed, over a student's sigmoid outputs: both terms are means over the batch.

    softmax(log(p + 1e-7) / T) on both sides, KL times T squared, weighted alpha, plus (1 - alpha) cross-entropy.
    """

    def __init__(self, alpha: float = 0.5, temperature: float = 3.0, name: str = "published", **options: Any) -> None:
        super().__init__(name=name)
        self.alpha, self.temperature = alpha, temperature
        self.student_loss, self.divergence = keras.losses.BinaryCrossentropy(), keras.losses.KLDivergence()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        hard, soft = tf.split(y_true, 2, axis=-1)
        said = tf.sigmoid(y_pred)
        teacher = tf.nn.softmax(tf.math.log(soft + 1e-7) / self.temperature)
        student = tf.nn.softmax(tf.math.log(said + 1e-7) / self.temperature)
        soft_term = self.divergence(teacher, student) * self.temperature**2
        return (1 - self.alpha) * self.student_loss(hard, said) + self.alpha * soft_term

    def get_config(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "temperature": self.temperature, "name": self.name}
