"""Names that attack a terminal, a spreadsheet or a manifest; and streams that break while work is done."""

import csv
import errno
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, label
from test_writers import STAND_IN, a_suspect, names_in

import pipeline
import softlabels
from pipeline.cli.commands import main
from pipeline.drafts.class_mapping import DraftRow, write_draft
from pipeline.report.suspects import write_suspects
from pipeline.terminal.printing import EscapingFormatter
from softlabels import ClassList, ClassListError, Clip, ManifestError
from softlabels.classes.matching import match_classes
from softlabels.tables import raise_faults
from softlabels.texts import Shown, printable

HOSTILE = {  # what a terminal obeys or does not show -> what is printed in its place
    "escape": ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
    "one byte escape": ("\x9b31m", "\\x9b31m"),
    "delete and back": ("rm\x7f\x08\x08", "rm\\x7f\\x08\\x08"),
    "line break": ("a\nsoftlabels run: done", "a\\nsoftlabels run: done"),
    "carriage return": ("a\rb", "a\\rb"),
    "line and paragraph": ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
    "override": ("gpj.\u202eexe", "gpj.\\u202eexe"),
    "isolate": ("\u2066a\u2069", "\\u2066a\\u2069"),
    "marks": ("\u200ea\u200fb\u061c", "\\u200ea\\u200fb\\u061c"),
    "no width": ("a\u200bb\u200dc\ufeff\u2060", "a\\u200bb\\u200dc\\ufeff\\u2060"),
    "tag": ("a\U000e0041", "a\\U000e0041"),
    "no text": ("caf\udce9", "caf\\udce9"),
}
UNSEEN = ["override", "isolate", "marks", "no width", "tag"]  # what a clip_id may hold: Persian needs some of it


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_terminal_would_obey_is_escaped(kind: str) -> None:
    raw, shown = HOSTILE[kind]
    assert printable(raw) == shown
    assert printable(shown) == shown
    record = logging.LogRecord("softlabels", logging.WARNING, "", 0, "%s", (raw,), None)
    assert EscapingFormatter().format(record) == shown


@pytest.mark.parametrize(
    "text", ["Grünspecht, mâle", "シジュウカラ", "a\u00a0b", "\\x1b", "C:\\clips\\new", "I'iwi 🐦"]
)
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


def is_clean(text: str) -> bool:
    return all(line.replace("\t", "").isprintable() for line in text.split("\n"))


def test_a_store_of_hostile_names_prints_none_of_them(corpus: Corpus, monkeypatch, capsys) -> None:
    monkeypatch.chdir(corpus.folder)
    clips = [Clip(clip_id=HOSTILE[kind][0], path=f"gone{HOSTILE[kind][0]}.wav") for kind in UNSEEN]
    clips += [Clip(clip_id="c0", path="c0.wav", labels=("A\u202eus aus",))]
    softlabels.write_manifest(clips, "m.csv")
    commands = [["run", "m.csv", *STAND_IN], ["inspect", "soft_labels", "--quarantine"], ["run", "m.csv", *STAND_IN]]
    commands += [["inspect", "soft_labels"], ["verify", "soft_labels", "--jobs", "1"]]
    commands += [["export", "soft_labels", "--to", "detections", "-o", "o\x1b[2J.csv"]]
    printed = ""
    for command in commands:
        main(command)
        printed += "".join(capsys.readouterr())
    assert is_clean(printed.replace("\r", ""))  # the bar's
    for kind in UNSEEN:
        assert HOSTILE[kind][1] in printed


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", [["inspect"], ["run", "--root", "."], ["manifest"]])
def test_an_error_that_quotes_a_name_escapes_it(tmp_path, monkeypatch, capsys, command: list[str], kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, HOSTILE[kind][0]]) == 2
    error = capsys.readouterr().err
    assert HOSTILE[kind][1] in error.replace("\\\\", "\\")
    assert error.endswith("\n")
    assert is_clean(error[:-1])
    assert error.count("\n") == 1


def test_a_list_of_faults_has_its_own_line_breaks_only() -> None:
    with pytest.raises(ManifestError) as found:
        raise_faults("m\n.csv", ["line 2: a\n  line 3: forged", "line 4: \x1b[2J"], ManifestError)
    text = found.value.args[0]
    assert isinstance(text, Shown)
    assert text.split("\n")[1:] == ["  line 2: a\\n  line 3: forged", "  line 4: \\x1b[2J"]
    assert printable(text) == text


def test_json_stays_json_and_holds_nothing_to_obey(corpus: Corpus, monkeypatch, capsys) -> None:
    for kind, (raw, _) in HOSTILE.items():
        monkeypatch.setattr("pipeline.cli.checks._described", lambda store, raw=raw: {"a": raw, "missing": 0, **NONE})
        monkeypatch.setattr("pipeline.cli.checks.open_store", lambda path: None)
        assert main(["inspect", "--json"]) == 0
        printed = capsys.readouterr().out
        assert json.loads(printed)["a"] == raw, kind
        assert is_clean(printed), kind


NONE = {"quarantined": 0}


# --- file names and manifests


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("manifest", b"caf\xe9.wav"),
        ("manifest", b"caf\xe9/a.wav"),
        ("manifest", b"a\nb.wav"),
        ("manifest", b"\x1b[2J.wav"),
        ("manifest", b"\xff\xfe/x\xc3.wav"),
        ("run", b"caf\xe9/a.wav"),
        ("run", b"a\nb.wav"),
    ],
)
def test_a_name_that_no_manifest_can_hold_is_named_and_all_others_are_written(
    corpus: Corpus, monkeypatch, capsys, command: str, name: bytes
) -> None:
    """One file of ten thousand with a name from another century keeps nobody from the rest: it is named, exit 1."""
    path = os.path.join(os.fsencode(corpus.folder), b"audio", name)
    os.makedirs(os.path.dirname(path))
    shutil.copy(corpus.folder / "c0.wav", os.fsdecode(path))
    corpus.write_audio("audio/b.wav")
    corpus.manifest.unlink()
    monkeypatch.chdir(corpus.folder)
    assert main([command, "audio", *(STAND_IN if command == "run" else ())]) == 1
    error = capsys.readouterr().err
    assert (
        f"left out of 'audio', 1 files whose name no manifest can hold, {WHY}: '{printable(os.fsdecode(name))}'"
        in error
    )
    assert "rename them" in error
    assert "`softlabels manifest DIR --update`" in error
    assert [clip.path for clip in softlabels.read_manifest("data_manifest.csv")] == ["audio/b.wav"]
    assert is_clean(error.replace("\r", ""))


WHY = "because it is not UTF-8 or has control characters"


def test_if_no_name_can_be_held_nothing_is_written(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a\tb.wav").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["manifest", "audio"]) == 2
    assert "'audio': no audio in it: left out of 'audio', 1 files whose name no manifest" in capsys.readouterr().err
    assert names_in(tmp_path) == {"audio"}


# What people, cameras, spreadsheets and other systems call files, whatever a manifest or a shell makes of it.
ODD = ["007", "1e3", "NA", "TRUE", "nan", "null", "=1+1", "+x", "@x", "'q", "''=q", '"q"', 'a""b', "a,b", "a;b", "a|b"]
ODD += [
    " lead",
    "trail ",
    "nbsp\u00a0",
    "\u00a0lead",
    "\u3000wide",
    "two  blanks",
    "\u00e9",
    "e\u0301a",
    "\u65e5\u672c",
]
ODD += [
    "a\\b",
    "C:x",
    "http:",
    "%20",
    "#1",
    "?x",
    "*",
    "~",
    "$HOME",
    "`id`",
    "&;",
    "{a}",
    "[a b]",
    "('a')",
    "c(a)",
    "['a']",
]
ODD += ["a..b", "x.wav", "-x", "--help", "noise", "\u202egpj", "a\u200db", "\U0001f426", "x" * 251, "n" * 120 + " m"]
LOST = [b"caf\xe9", b"a\tb", b"a\nb", b"a\rb", b"\x1b[0m", b"\xe2\x80\xa8", b"\x7f", b"\xc3"]
NO_CLASS = ("a;b", "?x", "&;", "--help", "x" * 251)  # such a folder is refused, or too long with its file


def test_what_manifest_writes_run_reads_whatever_the_files_are_called(corpus: Corpus, monkeypatch, capsys) -> None:
    """Property: every file is labelled under its own path and class, or named as left out."""
    rng, sound = np.random.default_rng(17), (corpus.folder / "c1.wav").read_bytes()
    joined = ["".join(rng.choice(ODD, 2)) for _ in range(20)]
    stems = dict.fromkeys([*ODD, *(stem for stem in joined if len(stem) < 200)])
    files = [f"{stem}.wav".encode() for stem in stems] + [stem + b".wav" for stem in LOST]
    files += [b"trailing.wav ", "nbsp.WAV\u00a0".encode()]
    files += [f"{stem}/in.wav".encode() for stem in stems if not any(odd in stem for odd in NO_CLASS)]
    files += [b"deep/" * 30 + b"f.wav", *(stem + b"/in.wav" for stem in LOST)]
    for name in files:
        path = os.path.join(os.fsencode(corpus.folder), b"audio", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(sound)
    corpus.manifest.unlink()
    monkeypatch.chdir(corpus.folder)
    assert main(["manifest", "audio"]) == 1
    told = capsys.readouterr().err
    assert f"left out of 'audio', {2 * len(LOST)} files whose name" in told
    listed = softlabels.read_manifest("data_manifest.csv")
    assert {os.fsencode(clip.path) for clip in listed} == {b"audio/" + name for name in files if not lost(name)}
    for clip in listed:
        folder = unicodedata.normalize("NFC", Path(clip.path).parent.name).strip()
        expected = () if folder == "noise" else (folder.removeprefix("-").strip(),)
        assert (clip.labels if clip.labels is not None else clip.absent) == (() if folder == "audio" else expected)
    assert main(["run", *STAND_IN[:-1], "1024"]) == 0
    census = softlabels.open("soft_labels").census
    assert (census.labelled, census.quarantined) == (len(listed), 0)
    assert sorted(census.clips["path"].to_pylist()) == sorted(clip.path for clip in listed)


def lost(name: bytes) -> bool:
    return any(name.startswith((stem + b".", stem + b"/")) for stem in LOST)


@pytest.mark.parametrize("column", ["clip_id", "path", "labels", "unsure", "absent"])
@pytest.mark.parametrize("bad", ["caf\udce9", "a\x1bb", "a\u2028b", "", "x" * 10_001])
def test_a_clip_that_no_manifest_can_hold_is_not_written(tmp_path, column: str, bad: str) -> None:
    plain = {"clip_id": "a", "path": "a.wav", "labels": ("A",)}
    clip = Clip(**{**plain, column: (bad,) if column in ("labels", "unsure", "absent") else bad})
    (tmp_path / "m.csv").write_text("older")
    with pytest.raises(ManifestError, match="1 fault; rename"):
        softlabels.write_manifest([Clip(**plain), clip], tmp_path / "m.csv")
    with pytest.raises(ManifestError):
        pipeline.run([clip], tmp_path / "store", root=tmp_path, teacher="standin:teacher")
    assert (tmp_path / "m.csv").read_text() == "older"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("i" * 10_001 + ",a.wav,A,s", "line 3: clip_id 'i+…': expected .* at most 10,000 long, got 10,001 characters"),
        ("a," + "p" * 20_000 + ",A,s", "line 3: clip_id 'a': expected a path .* got 20,000 characters"),
        ("a,a.wav,A;" + "n" * 1001 + ",s", "line 3: clip_id 'a': expected a name .* got 1,001 characters"),
        ("a,a.wav,A,\x1b[2J", r"line 3: clip_id 'a': expected a name .* got '\\x1b\[2J'"),
        ("a,a.wav,?\x9b1m,s", r"line 3: clip_id 'a': expected a name .* got '\\x9b1m'"),
    ],
)
def test_what_is_too_long_or_no_name_is_refused_with_its_row(tmp_path, row: str, complaint: str) -> None:
    (tmp_path / "m.csv").write_text(f"clip_id,path,label,split\nb,b.wav,A,s\n{row}\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=complaint) as found:
        softlabels.read_manifest(tmp_path / "m.csv")
    assert len(str(found.value)) < 1000


@pytest.mark.parametrize("name", ["n" * 1001, "a\x1b[2Jb", "caf\udce9", "a\x9bb"])
def test_a_class_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ClassListError, match="name 1 is") as found:
        ClassList(("A", name))
    assert len(str(found.value)) < 500


# --- formulas

FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+5dB",
    "-20dB",
    "@SUM(A1)",
    "'=1",
    "''-x",
    "\uff1d1",
    "'plain",
    "'I'iwi",
    "a=b",
]
HARMLESS = {"'plain", "'I'iwi", "a=b"}


def cells(path: Path) -> set[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {cell for row in csv.reader(file) for cell in row}


def test_a_manifest_runs_nothing_in_a_spreadsheet_and_reads_back_equal(tmp_path) -> None:
    clips = [
        Clip(clip_id=name, path=f"{name}/a.wav", labels=(label,), split=name, fold=name, unsure=(f"{label}2",))
        for name in FORMULAS
        for label in [f"x{name}" if name.startswith("-") else name]  # a name of a class does not begin with a mark
    ]
    softlabels.write_manifest(clips, tmp_path / "m.csv")
    assert softlabels.read_manifest(tmp_path / "m.csv") == clips
    assert not [cell for cell in cells(tmp_path / "m.csv") if cell[:1] in set("=+-@\uff1d")]
    assert {"'=1+1", "''=1", *HARMLESS} <= cells(tmp_path / "m.csv")


def test_a_manifest_of_somebody_elses_is_read_as_it_stands(tmp_path) -> None:
    (tmp_path / "m.csv").write_text("clip_id,path\n=1,-x/+y.wav\n@z,'q.wav\n")
    assert [(c.clip_id, c.path) for c in softlabels.read_manifest(tmp_path / "m.csv")] == [
        ("=1", "-x/+y.wav"),
        ("@z", "'q.wav"),
    ]


def test_a_draft_runs_nothing_and_is_read_as_it_was_meant(tmp_path) -> None:
    names = [name for name in FORMULAS if name == " ".join(name.split())]
    rows = [DraftRow(student_class=name, teacher_class=name, how="exact", look=False) for name in names]
    write_draft(rows, tmp_path / "mapping.csv")
    assert not [cell for cell in cells(tmp_path / "mapping.csv") if cell[:1] in set("=+-@\uff1d")]
    match = match_classes(ClassList(tuple(names)), ClassList(tuple(names)), mapping=tmp_path / "mapping.csv")
    assert set(match.how) == {"mapping"}
    assert match.teacher_classes.tolist() == list(range(len(names)))


def test_tables_for_people_run_nothing(corpus: Corpus, tmp_path) -> None:
    write_suspects([a_suspect(name) for name in FORMULAS], tmp_path / "suspects.csv")
    (corpus.folder / "c0.wav").unlink()
    corpus.write_manifest("clip_id,path\n=1+1,c0.wav\n@b,c1.wav\n")
    store = label(corpus)
    for path in (tmp_path / "suspects.csv", store.storage.root / "quarantine.csv"):
        assert not [cell for cell in cells(path) if cell[:1] in set("=+-@\uff1d")]
        assert "'=1+1" in cells(path)
    assert {entry.clip_id for entry in store.census.quarantine} == {"=1+1"}


# --- streams


class Broken(io.StringIO):
    """A stream that takes so many characters, then raises."""

    def __init__(self, number: int, room: int = 0) -> None:
        super().__init__()
        self.number, self.room = number, room

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.room:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize(("number", "room"), [(errno.EPIPE, 60), (errno.ENOSPC, 0), (errno.EIO, 60)])
def test_a_broken_stderr_stops_no_run(corpus: Corpus, monkeypatch, number: int, room: int) -> None:
    (corpus.folder / "c1.wav").unlink()  # a line above the bar
    monkeypatch.chdir(corpus.folder)
    monkeypatch.setattr(sys, "stderr", Broken(number, room))
    assert main(["run", *STAND_IN]) == 1
    assert (corpus.folder / "soft_labels" / "_SUCCESS-0001.json").is_file()
    assert isinstance(sys.stderr, Broken), "it is ours no longer"


@pytest.mark.parametrize(
    ("number", "room", "code"), [(errno.EPIPE, 0, 0), (errno.EPIPE, 40, 0), (errno.ENOSPC, 40, 3), (errno.EIO, 0, 3)]
)
def test_a_broken_stdout_loses_no_label(corpus: Corpus, monkeypatch, capsys, number: int, code: int, room: int) -> None:
    monkeypatch.chdir(corpus.folder)
    monkeypatch.setattr(sys, "stdout", Broken(number, room))
    assert main(["run", *STAND_IN]) == code
    assert (corpus.folder / "soft_labels" / "_SUCCESS-0001.json").is_file()
    error = capsys.readouterr().err
    assert ("the output could not be written in full: " + os.strerror(number) in error) == (code == 3)
    assert "Traceback" not in error


@pytest.mark.parametrize("streams", ["<&- 2>&- | true", ">&- 2>&-"])
def test_a_reader_who_leaves_and_streams_that_are_closed_lose_no_label(corpus: Corpus, streams: str) -> None:
    """As a shell does it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
    command = f"{sys.executable} -m pipeline run -o new {' '.join(STAND_IN)} {streams}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=environment, cwd=corpus.folder, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len(softlabels.open(corpus.folder / "new")) == 14
