"""Folding: the same TFLite model with less to compute, checked against the file it came from.

Here: the graph editor, the rewrites, the cache of what they made.
"""
