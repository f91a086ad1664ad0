"""The offline job: run a teacher over a corpus and keep its probabilities. No training code imports it."""

import pipeline.search_path  # noqa: F401 (before all others)
from pipeline.planning.prepare import LabelOptions
from pipeline.running.closing import RunSummary, finish
from pipeline.running.job_array import ArrayTask
from pipeline.running.run import RunEvents, RunOptions, run
from pipeline.teachers.teacher import Teacher, TeacherChoice

__all__ = [
    "ArrayTask",
    "LabelOptions",
    "RunEvents",
    "RunOptions",
    "RunSummary",
    "Teacher",
    "TeacherChoice",
    "finish",
    "run",
]
