"""Models: the files of a model, read once, and first opened where it can do no harm.

Here: private copies and their digests, what an ONNX file keeps outside itself, the process that is lost in place of
ours. Not here: what a model answers (`teachers`).
"""
