"""Importing this makes Keras and TensorFlow look as if they were not installed, in spawned processes too."""

from without import KERAS, hide

hide(*KERAS)
