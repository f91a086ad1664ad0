"""Running: the whole job, whatever happens to its workers.

Here: rounds, engines, job arrays, the end of a run, the forecast. May import `planning`, `labelling`, and the floors
below.
"""
