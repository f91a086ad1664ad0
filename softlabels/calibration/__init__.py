"""Calibration: what the teacher's probabilities are worth here, by the annotated clips.

Here: maps, their fit, trust, the alignment canary. Not here: where examples come from (`labels`). May import `storage`,
`classes`, and the floors below.
"""
