"""The offline job: run a teacher over a corpus and keep what it said. No training code imports it."""

from pipeline.closing import RunSummary, finish
from pipeline.prepare import LabelOptions
from pipeline.supervisor import RunEvents, RunOptions, run
from pipeline.task_array import ArrayTask
from pipeline.teachers import Teacher, TeacherChoice

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
