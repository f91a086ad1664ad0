"""The house stands as drawn: who may import whom, how large a room is, and what nobody takes from another room."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import REPOSITORY

FILES = sorted(path for package in ("softlabels", "pipeline") for path in (REPOSITORY / package).rglob("*.py"))
MOST_FILE, MOST_FUNCTION, MOST_ROOM = 400, 50, 1400


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_rooms_import_lower_floors_only_and_never_in_a_circle() -> None:
    done = lint(REPOSITORY)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("softlabels/records/spec.py", "from softlabels.labels import saved", "softlabels: a room"),
        ("softlabels/records/spec.py", "from softlabels.corpus import manifest", "softlabels: a room"),
        ("softlabels/windows.py", "def f():\n    from softlabels import errors", "softlabels: a room"),
        (
            "softlabels/audio/tape.py",
            "if __import__('typing').TYPE_CHECKING:\n    import softlabels.joins.rows",
            "a room",
        ),
        ("pipeline/checking/verify.py", "from pipeline.running import rounds", "pipeline: a room"),
        ("softlabels/errors.py", "import pipeline.planning.plan", "softlabels never imports pipeline"),
        ("softlabels/records/spec.py", "from softlabels.records import shard", "no circle"),
    ],
)
def test_an_import_against_the_plan_is_noticed(tmp_path: Path, file: str, line: str, broken: str) -> None:
    for path in (*FILES, REPOSITORY / "pyproject.toml"):
        copy = tmp_path / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    with (tmp_path / file).open("a") as changed:
        changed.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert any(broken in said and "BROKEN" in said for said in done.stdout.splitlines()), done.stdout


def test_no_file_function_or_room_outgrows_its_place() -> None:
    rooms: dict[Path, int] = defaultdict(int)
    large = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        rooms[path.parent] += text.count("\n")
        if text.count("\n") > MOST_FILE:
            large.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length_of(node) > MOST_FUNCTION:
                large.append(f"{path}:{node.lineno} {node.name}: {length_of(node)} lines")
    large += [f"{room}: {lines} lines" for room, lines in rooms.items() if lines > MOST_ROOM]
    assert large == []


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, docstring apart."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return lines - (first.end_lineno - first.lineno + 1 if documented else 0)


def test_nobody_takes_a_private_name_of_another_module() -> None:
    taken = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("softlabels", "pipeline")):
                taken += [f"{path}: {node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_")]
    assert taken == []


def test_a_rooms_init_is_a_docstring_and_nothing_else() -> None:
    faces = {REPOSITORY / "softlabels", REPOSITORY / "pipeline", REPOSITORY / "pipeline" / "cli"}
    for path in FILES:
        if path.name == "__init__.py" and path.parent not in faces:
            (only,) = ast.parse(path.read_text(encoding="utf-8")).body
            assert isinstance(only, ast.Expr), path


def test_no_room_imports_the_face() -> None:
    for path in FILES:
        if path.parts[-2] == "softlabels" and path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            package = path.relative_to(REPOSITORY).parts[0]
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert package not in names, path
