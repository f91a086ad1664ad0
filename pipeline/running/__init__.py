"""Running: the whole job, whatever happens to its workers.

Here: rounds, job arrays, the end of a run, the forecast. May import `planning`, `labelling`, `engines`, and the floors
below.
"""
