"""Two epochs on one replica and on two, TensorFlow only. Prints one JSON object."""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from softlabels.loss.distillation import DistillationLoss


def trained(x, y):
    """Weights before and after two epochs of one full batch each."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    model.compile(
        keras.optimizers.SGD(0.5), DistillationLoss(0.5, 2.0, None, "sigmoid", True, trust=np.linspace(0, 1, 5))
    )
    start = model.get_weights()[0].copy()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return start, model.get_weights()[0]


def main():
    """Train twice and compare."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)).astype(np.float32), rng.random((8, 10)).astype(np.float32)
    y[5, 5:] = np.nan  # the two replicas see different numbers of soft rows
    start, one = trained(x, y)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        _, two = trained(x, y)
    sys.stdout.write(
        json.dumps(
            {
                "replicas": strategy.num_replicas_in_sync,
                "moved": float(np.abs(one - start).max()),
                "difference": float(np.abs(one - two).max()),
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
