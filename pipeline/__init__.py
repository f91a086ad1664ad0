"""The offline job: run a teacher over a corpus and keep what it said. No training code imports it."""

from pipeline.supervisor import LabelOptions, RunEvents, RunSummary, run
from pipeline.teachers import Teacher, TeacherChoice

__all__ = ["LabelOptions", "RunEvents", "RunSummary", "Teacher", "TeacherChoice", "run"]
