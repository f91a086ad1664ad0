"""The offline job: run a teacher over a corpus and keep what it said. No training code imports it."""

from pipeline.prepare import LabelOptions
from pipeline.supervisor import RunEvents, RunOptions, RunSummary, run
from pipeline.teachers import Teacher, TeacherChoice

__all__ = ["LabelOptions", "RunEvents", "RunOptions", "RunSummary", "Teacher", "TeacherChoice", "run"]
