"""Adaptation: the annotated clips teach the teacher: a probe on the principal components of all that it gave.

Here: components of a store's rows, the probe, when it is believed. Not here: maps of single classes (`calibration`).
May import `store`, `calibration`, and the floors below.
"""
