"""Batches: from rows of labels to what `fit` takes.

Here: the order of rows, their sound, tf.data, PyDataset, grain, PyTorch, mixup. Not here: what a label is (`labels`);
batches know rows only as a Protocol. May import `store`, `audio`, `corpus`, `calibration`, and the floors below.
"""
