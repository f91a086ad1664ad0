"""Calibration: what the teacher's probabilities are worth here, by the annotated clips.

Here: maps, their fit, which of them is believed, the report. Not here: the annotated examples (`evidence`); the
components of all that was stored (`adaptation`). May import `evidence`, `storage`, `classes`, and the floors below.
"""
