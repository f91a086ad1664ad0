"""Batches for one framework each: tf.data, PyDataset, grain, PyTorch. Each file imports its own, and the stream."""
