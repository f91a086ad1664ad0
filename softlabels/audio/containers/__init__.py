"""Containers: what a file's own structure says of its samples: sizes, counts, checksums, places.

Here: one file a family of containers, all with one answer, a `Structure`. Not here: decoding (`audio.decode`).
"""
