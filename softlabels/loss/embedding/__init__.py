"""Embedding distillation: a student learns, beside the labels, what the teacher made them of.

Here: the loss, and the head that is beside a student while it trains. Not here: where embeddings come from. Keras and
NumPy only, as all of `loss`.
"""
