"""Models on TensorFlow, JAX and PyTorch, chosen by Keras's own KERAS_BACKEND: the device, and one pass.

Imports nothing of ours but errors, and a framework only when called.
"""
