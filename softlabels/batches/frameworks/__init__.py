"""Batches for one framework each: tf.data, PyDataset, grain, PyTorch. Each file imports its own, and of the room the
stream; tf.data also what it calls of Python (`batches/calls`).
"""
