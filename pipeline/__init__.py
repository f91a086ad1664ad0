"""The offline job: run a teacher over a corpus and keep its probabilities. No training code imports it.

A name is loaded when it is first used: a worker process loads what labels, not what plans and closes a run.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.planning.prepare import LabelOptions
    from pipeline.running.closing import RunSummary, finish
    from pipeline.running.job_array import ArrayTask
    from pipeline.running.run import RunEvents, RunOptions, run
    from pipeline.teachers.teacher import Teacher, TeacherChoice

_LAZY = {
    "ArrayTask": "pipeline.running.job_array",
    "LabelOptions": "pipeline.planning.prepare",
    "RunEvents": "pipeline.running.run",
    "RunOptions": "pipeline.running.run",
    "RunSummary": "pipeline.running.closing",
    "Teacher": "pipeline.teachers.teacher",
    "TeacherChoice": "pipeline.teachers.teacher",
    "finish": "pipeline.running.closing",
    "run": "pipeline.running.run",
}

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


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
