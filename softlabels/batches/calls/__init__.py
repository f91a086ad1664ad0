"""What tf.data calls of Python: how it is called while Python ends, and how much a call makes.

Not here: what a batch is (`batches/stream.py`). May import the rooms that `batches` may, and its stream.
"""
