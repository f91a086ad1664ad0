"""Keras models on JAX and on PyTorch, chosen by Keras's own KERAS_BACKEND: the device, and one pass.

What TensorFlow needs is in `keras_model`. Imports nothing of ours but errors, and JAX or PyTorch only when called.
"""
