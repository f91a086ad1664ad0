"""Calibrations that a teacher's authors publish: a slope and a shift a class, taken over instead of fitted.

Here: reading their table, and the read step that applies it. Not here: what annotated clips teach.
"""
