"""Batches for one framework each: PyDataset, grain, PyTorch. Each file imports its own, and of the room the stream.

Not here: tf.data, which needs more.
"""
