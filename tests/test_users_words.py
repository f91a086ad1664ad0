"""What a user reads in the terminal: flags and files by their names, what to type next, and nothing of others."""

import contextlib
import dataclasses
import errno
import fcntl
import gzip
import json
import logging
import lzma
import os
import pty
import re
import select
import shlex
import shutil
import struct
import sys
import termios
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import REPOSITORY, Corpus, label
from standin import StandIn
from test_cli import fields

import pipeline.labelling.worker
from pipeline.checking.compare import Comparison
from pipeline.cli.commands import main
from pipeline.planning.settings import setting_differences
from pipeline.running.closing import RunSummary
from pipeline.teachers.teacher import TeacherChoice
from pipeline.terminal.printing import messages, print_json, print_results, progress_bar, tell
from softlabels import ClassList
from softlabels.os_errors import explained, told
from softlabels.records.spec import LabelSpec
from softlabels.windows import WindowSpec

STAND_IN = ("--teacher", "standin:teacher", "--backend", "sequential")


@pytest.fixture
def here(corpus: Corpus, monkeypatch) -> Corpus:
    """The corpus as the current directory."""
    monkeypatch.chdir(corpus.folder)
    return corpus


# --- settings

A, B = "a" * 64, "b" * 64
GRID = WindowSpec(rate_hz=8000, window_samples=800, hop_samples=800)
OTHER_SETTINGS = {  # what is asked for -> what is said, beside a store of the stand-in with all defaults
    "--overlap 0.05 here, 0 in the store": {"window": dataclasses.replace(GRID, hop_samples=400)},
    "--overlap 0.025 here, 0 in the store": {"window": dataclasses.replace(GRID, hop_samples=600)},
    "rate 16000 here, 8000 in the store; seconds a window 0.05 here, 0.1 in": {
        "window": WindowSpec(rate_hz=16_000, window_samples=800, hop_samples=800)
    },
    "activation softmax here, sigmoid in the store": {"activation": "softmax"},
    "batch-size 16 here, 4 in the store": {"batch_size": 16},
    "--jitters 5 here, 1 in the store": {"jitters": 5},
    "--shard-windows 100 here, 4 in the store": {"shard_windows": 100},
    "--layout sparse here, dense in the store": {"layout": "sparse", "min_probability": 0.01},
    "with --portable here, without it in the store": {"portable": True},
    "without --no-fold here, with it": {"fold": "1", "source_digest": StandIn.digest, "teacher_digest": B},
    "teacher birdnet-v2.4 here, stand-in in the store": {"teacher": "birdnet-v2.4"},
    "--teacher standin:teacher is not what it was": {"teacher_digest": B},
    "--keep-classes: 2 here, 3 in the store (only in the store 'Aus aus_Alpha')": {"teacher_class_digest": A},
    "classes of the teacher: another class list here than in the store": {"teacher_class_digest": A, "layout": "dense"},
    "--components 64 here, 0 in": {"components": 64, "component_digest": B, "teacher_class_digest": A},
    "decode int16 here, float32, mean of channels in the store, which another version": {"decode": "int16"},
    "resample linear here": {"resample": "linear"},
    "significand_bits 10 here, 8 in the store": {"significand_bits": 10},
    "zstd_level 3 here, 1 in the store": {"zstd_level": 3},
    "--pool mean here, none in the store": {"pool": "mean"},
    "--scale 0.5 here, 1 in the store; --offset -2 here, 0 in the store": {"scale": 0.5, "offset": -2.0},
    "--peak 0.25 here, 0 in the store": {"peak": 0.25},
    "with --remove-mean here, without it in the store": {"remove_mean": True},
    "--output scores label here, none in the store": {"scores_output": "label"},
    "--output embedding e here, none in the store; numbers of the embedding 9 here, 0 in the store": {
        "embedding_output": "e",
        "embedding": 9,
    },
    "taxonomy (0: not stated) 2025 here, 0 in the store": {"taxonomy_year": 2025},
}


def test_every_setting_that_differs_is_named_as_its_flag_with_both_values(corpus: Corpus) -> None:
    store = label(corpus)
    choice, classes, kept = TeacherChoice(kind="standin:teacher"), store.classes, ClassList(store.classes.names[1:])
    seen = set()
    for said, changes in OTHER_SETTINGS.items():
        asked = dataclasses.replace(store.spec, **changes)
        found = setting_differences(asked, kept if "teacher_class_digest" in changes else classes, choice, store)
        assert said in found, found
        assert not any(mark in found for mark in ("{", A[:12], B[:12], store.spec.teacher_digest[:12])), found
        seen |= set(changes)
    assert {field.name for field in dataclasses.fields(LabelSpec)} - seen == {"class_digest", "format_version"}
    assert setting_differences(store.spec, classes, choice, store) == ""


def run_stand_in(*flags: str) -> int:
    return main(["run", *STAND_IN, "--shard-windows", "4", *flags])


def test_settings_are_told_so_on_the_command_line(here: Corpus, capsys) -> None:
    (here.folder / "mine.txt").write_text("Cus cus\nAus aus_Alpha\n")
    assert run_stand_in() == 0
    for flags, said in (
        (
            ["--overlap", "0.05", "--jitters", "2"],
            "--overlap 0.05 here, 0 in the store; --jitters 2 here, 1 in the store",
        ),
        (["--keep-classes", "mine.txt"], "--keep-classes: 2 here, 3 in the store (only in the store 'Bus bus_Beta')"),
        (["--layout", "sparse"], "--layout sparse here, dense in the store"),
        (["--teacher", "standin:bands"], "--teacher standin:bands here, standin:teacher in the store; "),
    ):
        capsys.readouterr()
        assert run_stand_in(*flags) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.endswith("; use the store's, or label into another store with -o\n")


# --- paths


def write_wrong_files(folder: Path) -> None:
    """Beside c0.wav and store: what people name in place of a manifest."""
    text = "clip_id,path\na,c0.wav\n"
    (folder / "my list.csv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "list.csv.xz").write_bytes(lzma.compress(text.encode()))
    (folder / "excel.xlsx").write_bytes(b"PK\x03\x04" + bytes(range(256)))
    (folder / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99))
    (folder / "unicode.csv").write_bytes(text.encode("utf-16"))
    (folder / "latin.csv").write_bytes("clip_id,path\ncafé,c0.wav\n".encode("latin-1"))
    (folder / "table.parquet").write_bytes(b"PAR1\xff\x00PAR1")
    (folder / "song.mp3").write_bytes(b"\xff\xfb\x90d" + bytes(99))
    (folder / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(99))
    (folder / "sub" / "store").mkdir(parents=True)
    (folder / "sub" / "store" / "store.json").write_text("{}")
    (folder / "plain").mkdir()
    (folder / "listed").mkdir()
    (folder / "listed" / "data_manifest.csv").write_text(text)


WRONG = {
    "run c0.wav": "got a recording; `softlabels run .` labels all recordings of its folder, `softlabels manifest .` wr",
    "run ./plain/../c1.wav": "`softlabels run plain/..` labels all",
    "run song.mp3": "got a recording; `softlabels run .`",
    "run song.m4a": "got a recording; `softlabels run .`",
    "run 'my list.csv.gz'": "got a gzip file: unpack it with `gunzip -k 'my list.csv.gz'`",
    "run list.csv.xz": "got an xz file: unpack it with `unxz -k list.csv.xz`",
    "run excel.xlsx": "got an Excel workbook or ZIP file: save the table as CSV UTF-8",
    "run old.xls": "got an Excel workbook: save the table as CSV UTF-8",
    "run unicode.csv": "got UTF-16 text: save it as UTF-8",
    "run latin.csv": "not UTF-8 text (byte 0xe9 at 16): save it as UTF-8",
    "run table.parquet": "got a Parquet file: save the table as CSV UTF-8",
    "run store": "got a store; `softlabels run MANIFEST -o store` goes on with it, `softlabels inspect store` shows it",
    "run nowhere.csv": "no such file; `softlabels manifest DIR` writes one from a folder of recordings, ",
    "run plain": "'plain': no audio in it: expected files ending in",
    "run listed": "`softlabels run listed/data_manifest.csv` takes the manifest in it",
    "run store/store.json": "column 'clip_id' is missing",
    "inspect data_manifest.csv": "that is a text file; `softlabels run data_manifest.csv` makes a store",
    "verify c0.wav": "that is a recording; `softlabels run .` makes a store",
    "regenerate --shard 0 'my list.csv.gz'": "no store at 'my list.csv.gz': that is a gzip file: unpack it",
    "compare store plain": "no store at 'plain': that is a folder; `softlabels run plain` makes a store",
    "export --to hf -o out sub": "that is a folder with a store in it; name that, 'sub/store'",
    "report store/receipts": "that is a folder in a store; name the store, 'store'",
    "inspect nowhere": "no store at 'nowhere': no store.json there; `softlabels run` makes one",
    "report store --manifest store": "manifest 'store': expected a CSV file with a row a clip, got a store; ",
    "classes store": "class list 'store': expected a UTF-8 text file, one name a line: got a store",
    "classes nowhere.txt": "one name a line: got nothing, there is no such file",
    "manifest . --metadata c0.wav -o m.csv": "metadata 'c0.wav': expected a UTF-8 CSV file, got a recording",
    "run c0.wav c1.wav": "unrecognized arguments: c1.wav; name one file or folder; `softlabels --help`",
}


def test_what_was_named_in_place_of_something_else_is_told_with_what_to_type(here: Corpus, store, capsys) -> None:
    write_wrong_files(here.folder)
    before = tree(here.folder)
    for command, said in WRONG.items():
        try:
            code: object = main([*shlex.split(command), *(STAND_IN if command.startswith("run") else ())])
        except SystemExit as e:
            code = e.code
        printed = capsys.readouterr()
        assert (code, printed.out) == (2, ""), command
        assert said in printed.err, command
        assert printed.err.count("\n") == 1, command
        assert not any(word in printed.err for word in ("Errno", "codec", "Traceback")), command
    assert tree(here.folder) == before


# --- errors of the system


def test_no_error_of_the_system_is_told_as_its_number() -> None:
    for number in errno.errorcode:
        error = OSError(number, os.strerror(number), "some/file.csv")
        assert told(error) == f"'some/file.csv': {os.strerror(number)}"
        assert explained(error).startswith(f"{os.strerror(number)} while opening 'some/file.csv': ")
        assert len(explained(error).rpartition(": ")[2]) > 10
        error.add_note("while writing file.csv in 'some'")
        assert explained(error).startswith(f"{os.strerror(number)} while writing file.csv in 'some': ")
    assert explained(OSError("no number")) == told(OSError("no number")) == "no number"
    assert told(OSError(errno.EIO, "Input/output error", b"caf\xc3\xa9")) == "'café': Input/output error"


def test_what_cannot_be_written_is_told_with_file_action_and_next_step(here: Corpus, monkeypatch, capsys) -> None:
    (here.folder / "loop").symlink_to("loop")
    (here.folder / "mine.txt").write_text("Aus aus\n")
    for output, said in (
        (
            "c0.wav/m.csv",
            f"while writing m.csv in '{here.folder}/c0.wav': something else has its name; name another one",
        ),
        ("loop/m.csv", f"while writing m.csv in '{here.folder}/loop': "),
        ("x" * 300, "name a shorter one"),
    ):
        assert main(["manifest", ".", "-o", output]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Errno" not in error
    for number, step in ((errno.EACCES, "`ls -ld`"), (errno.EROFS, "name another place"), (errno.EIO, "is well")):

        def fail(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        for call, command in (("replace", ["manifest", ".", "-o", "m.csv"]), ("link", ["classes", "mine.txt"])):
            with monkeypatch.context() as patch:
                patch.setattr(f"softlabels.storage.unfinished.os.{call}", fail)
                command += ["--against", "mine.txt", "-o", "map.csv"] if command[0] == "classes" else []
                assert main(command) == 2
            error = capsys.readouterr().err
            assert f"{os.strerror(number)} while writing {command[-1]} in '" in error
            assert step in error
            assert "Errno" not in error


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("loop", "got a link to nowhere; name another one with -o"),
        ("dangling", "got a link to nowhere; "),
        ("loop/in/side", "got a link to nowhere at '"),
        ("c0.wav", "got a file; "),
        ("c0.wav/deep/er", "c0.wav'; name another one with -o"),
    ],
)
def test_a_store_that_cannot_be_a_folder_is_refused_before_any_work(
    here: Corpus, capsys, store: str, said: str
) -> None:
    (here.folder / "loop").symlink_to("loop")
    (here.folder / "dangling").symlink_to("nowhere")
    assert run_stand_in("-o", store) == 2
    error = capsys.readouterr().err
    assert f"softlabels run: store '{store}': expected a folder, {'got' if 'got' in said else ''}" in error
    assert said in error


def test_a_store_in_trouble_is_told_without_numbers(here: Corpus, monkeypatch, capsys) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "soft_labels/plan")

    monkeypatch.setattr("pipeline.running.run.write_plan", fail)
    assert run_stand_in() == 3
    error = capsys.readouterr().err
    assert "store 'soft_labels': 'soft_labels/plan': Stale file handle; when it can be reached" in error


# --- --on-error fail


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "missing: no such file"), (b"", "empty: "), (b"no audio at all", "unsupported-container: ")],
)
def test_on_error_fail_names_the_file_to_mend(here: Corpus, capsys, content: bytes | None, reason: str) -> None:
    (here.folder / "deep" / "er").mkdir(parents=True)
    broken = here.folder / "deep" / "er" / "x.wav"
    if content is not None:
        broken.write_bytes(content)
    here.write_manifest("clip_id,path\nfirst,c0.wav\nsecond,deep/er/x.wav\n")
    assert run_stand_in("--on-error", "fail") == 1
    error = capsys.readouterr().err
    assert f"stopped early: --on-error fail: second: {reason}" in error
    assert f"; mend '{broken}', or take its clip out of the manifest; --on-error skip goes on without it" in error


# --- noise


NOISY = """
import logging, os, sys, warnings
print("loading the model")
warnings.warn("a class of old")
logging.getLogger("tensorflow").warning("retracing")
os.write(2, b"I0000 00:00 native.cc:1] noise")
from standin import StandIn
class Noisy(StandIn):
    def score(self, windows):
        warnings.warn("scored")
        print("a print of mine")
        os.write(1, b"native print")
        os.write(2, b"WARNING: All log messages before absl::InitializeLog()")
        return super().score(windows)
def teacher():
    return Noisy()
"""


def test_what_others_print_stays_out_of_the_terminal_and_is_there_when_asked_for(
    here: Corpus, monkeypatch, capfd
) -> None:
    (here.folder / "noisy.py").write_text(NOISY)
    monkeypatch.syspath_prepend(here.folder)
    said = {}
    for flag, how in (("-v", ["--backend", "sequential"]), ("--json", ["--jobs", "1"])):  # here, and in a worker
        sys.modules.pop("noisy", None)
        assert main(["run", "--teacher", "noisy:teacher", "-o", flag.strip("-"), "--json", flag, *how]) == 0
        printed = capfd.readouterr()
        assert json.loads(printed.out)["labelled"] == 14
        said[flag] = printed.err
    assert said["--json"].splitlines() == [
        "loading the model",  # where the command itself loads it: a person may wait for a download
        "teacher: stand-in, 3 classes",
        "labelling 14 windows in 1 shards",
        "next, in Python: softlabels.open('json').join('data_manifest.csv')",
    ]
    for noise in ("a class of old", "retracing", "native.cc:1", "scored", "a print of mine", "native print", "absl::"):
        assert noise in said["-v"], noise


def test_logging_is_as_it_was_when_a_command_ends(here: Corpus, capsys) -> None:
    def state() -> list[object]:
        loggers = [logging.getLogger(name) for name in ("", "softlabels", "pipeline", "pipeline.cli", "absl")]
        return [warnings.showwarning, *[(logger.level, list(logger.handlers)) for logger in loggers]]

    before = state()
    for flag in ("--quiet", "--verbose"):
        main(["inspect", "nowhere", flag])
        assert state() == before
        assert "no store at 'nowhere'" in capsys.readouterr().err
    assert "StoreError" not in capsys.readouterr().err


def test_quiet_leaves_errors_only_and_verbose_says_where_they_were_raised(here: Corpus, capsys) -> None:
    (here.folder / "c1.wav").unlink()
    assert run_stand_in("--quiet") == 1
    printed = capsys.readouterr()
    assert (printed.err, fields(printed.out)["quarantined"]) == ("", "1")
    assert main(["inspect", "nowhere", "-q"]) == 2
    assert capsys.readouterr().err.startswith("softlabels inspect: no store at 'nowhere'")
    assert main(["inspect", "nowhere", "-v"]) == 2
    error = capsys.readouterr().err
    assert "\nTraceback (most recent call last):\n" in error
    assert "_read_header" in error


def test_version(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"softlabels {version('softlabels')}\n"


# --- progress


def test_progress_without_a_terminal_is_whole_lines_of_at_most_60_columns(here: Corpus, monkeypatch, capsys) -> None:
    monkeypatch.setattr("pipeline.terminal.printing.LINE_EVERY_S", 0.0)
    (here.folder / "c1.wav").unlink()
    assert run_stand_in() == 1
    error = capsys.readouterr().err
    assert "\r" not in error
    lines = [line for line in error.splitlines() if re.match(r"\d+/14 windows, .*/s, .* left", line)]
    assert len(lines) >= 4
    assert all(len(line) <= 60 for line in lines)
    assert "x real time" in lines[-1]


@pytest.mark.parametrize(("total", "seconds_each"), [(44_740, 0.03), (99_999_999, 0.0004), (12, 3600.0)])
def test_progress_lines_come_at_a_bounded_rate_and_fit(monkeypatch, capsys, total: int, seconds_each: float) -> None:
    now, step = [0.0], max(1, total // 2000)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with messages(quiet=False, verbose=False), progress_bar(total, "windows") as bar:
        for _ in range(0, total, step):
            now[0] += seconds_each * step
            bar.set_postfix_str("12345x real time", refresh=False)
            bar.update(step)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= now[0] / 30 + 1
    assert max(map(len, lines)) <= 60
    assert re.fullmatch(r"\d+/\d+ windows, +[\d.]+(/s|s/), [\d:]+ left(, 12345x real time)?", lines[-1])


@pytest.mark.parametrize(("columns", "total"), [(60, 44_740), (60, 99_999_999), (40, 1500), (200, 14)])
def test_a_bar_fits_its_terminal(monkeypatch, columns: int, total: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with messages(quiet=False, verbose=False), progress_bar(total, "windows") as bar:
            bar.set_postfix_str("89x real time", refresh=False)
            bar.update(total // 2)
            bar.refresh()
            tell("a line of its own")
        drawn = ""
        while select.select([ours], [], [], 0.1)[0]:
            drawn += os.read(ours, 1 << 16).decode()
    os.close(ours)
    frames = [frame for frame in re.split(r"[\r\n]", drawn) if "windows" in frame]
    assert frames
    assert max(map(len, frames)) <= columns
    assert "a line of its own\r\n" in drawn


def test_ctrl_c_and_resuming_say_how_much_is_there(here: Corpus, monkeypatch, capsys) -> None:
    label_shard = pipeline.labelling.worker.label_shard
    calls = []

    def stopped(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return label_shard(*arguments, **options)

    monkeypatch.setattr("pipeline.labelling.worker.label_shard", stopped)
    assert run_stand_in() == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-2:] == [
        "7 of 14 windows are there",
        "softlabels run: interrupted; the same command goes on from here",
    ]
    assert run_stand_in() == 0
    assert "7 of 14 windows are there\nlabelling 7 windows in 2 shards\n" in capsys.readouterr().err
    here.write_audio("c6.wav", 0.2, seed=6)
    here.write_manifest(here.manifest.read_text() + "c6,c6.wav,,train\n")
    assert run_stand_in() == 0
    assert "14 of 16 windows are there\nlabelling 2 windows in 1 shards\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["inspect"], ["verify", "--jobs", "1"], ["compare", "a", "b"]])
def test_ctrl_c_in_other_commands_promises_nothing(here: Corpus, monkeypatch, capsys, command: list[str]) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.cli.checks.open_store", stop)
    assert main(command) == 130
    assert capsys.readouterr().err == f"softlabels {command[0]}: interrupted; the same command begins again\n"


# --- --json


@pytest.fixture
def with_results(here: Corpus, capsys) -> dict[str, list[str]]:
    """Commands that print results, by what the README calls them, beside a store with a quarantined window."""
    (here.folder / "c1.wav").unlink()
    (here.folder / "mine.txt").write_text("Cus cus_Gamma\nAus_aus_Alpha\nBus bus_Biene\n")
    assert run_stand_in() == 1
    assert run_stand_in("-o", "other") == 1
    return {
        "run": ["run", *STAND_IN],
        "run --dry-run": ["run", *STAND_IN, "--dry-run", "-o", "new"],
        "manifest": ["manifest", ".", "-o", "m.csv"],
        "classes": ["classes", "mine.txt"],
        "inspect": ["inspect"],
        "verify": ["verify", "--jobs", "1"],
        "regenerate": ["regenerate", "--shard", "0", "--jobs", "1"],
        "compare": ["compare", "soft_labels", "other"],
        "export": ["export", "--to", "detections", "-o", "out.csv"],
    }


def clear_outputs(folder: Path) -> None:
    for name in ("m.csv", "mapping.csv", "out.csv"):
        (folder / name).unlink(missing_ok=True)


def documented(command: str) -> set[str]:
    """The fields that the README lists."""
    text = (REPOSITORY / "pipeline/README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{command}` \| (.*) \|$", text.partition("## What `--json` gives")[2], re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row[1])) if row else set()


def test_json_is_one_object_of_documented_fields_on_stdout_and_the_exit_code_stays(here, capsys, with_results) -> None:
    named = {"run": RunSummary, "compare": Comparison}
    for name, command in with_results.items():
        capsys.readouterr()
        code = main(command)
        plain = capsys.readouterr().out
        clear_outputs(here.folder)
        assert main([*command, "--json"]) == code, name
        printed = capsys.readouterr()
        clear_outputs(here.folder)
        found = json.loads(printed.out)
        of_class = {field.name for field in dataclasses.fields(named[name])} if name in named else set()
        expected = (documented(name) | of_class) - {"RunSummary", "Comparison", "quarantine"}
        assert set(found) == expected, name
        assert "{" not in printed.err, name
        assert not re.search(r"\d,\d\d\d", plain), name
        if name in ("run --dry-run", "classes", "export"):  # no likeness, no table
            lines = {key: value for key, value in fields(plain).items() if key in found and key != "seconds"}
            assert len(lines) >= 5
            assert {key: str(found[key]) for key in lines} == lines
    assert main(["inspect", "--quarantine", "--json"]) == 1
    (entry,) = json.loads(capsys.readouterr().out)["quarantine"]
    assert (entry["clip_id"], entry["reason"], entry["windows"]) == ("c1", "missing", 1)


def test_a_reader_who_leaves_is_told_nothing_more_by_any_command(here, monkeypatch, capsys, with_results) -> None:
    commands = [*with_results.values(), ["inspect", "--json"], ["run", "--help"], ["--version"]]
    for command in commands:
        reader, writer = os.pipe()
        os.close(reader)
        capsys.readouterr()
        with monkeypatch.context() as patch, open(writer, "w") as left:
            patch.setattr(sys, "stdout", left)
            with contextlib.suppress(SystemExit):
                assert main(command) in (0, 1), command
        error = capsys.readouterr().err
        assert not any(word in error for word in ("roken pipe", "Traceback", f"softlabels {command[0]}:")), error


def test_json_has_no_number_that_is_none(capsys) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x")})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"a": None, "b": [None, 1.5], "c": "x"}


def test_numbers_of_lines_have_no_separators(capsys) -> None:
    print_results(False, {}, windows=1234567, seconds=0.5, reasons={"a-very-long-reason-of-all": 1000}, store="a b")
    assert capsys.readouterr().out.splitlines() == [
        "windows                      1234567",
        "seconds                      0.5",
        "  a-very-long-reason-of-all  1000",
        "store                        a b",
    ]


# --- --dry-run


def tree(folder: Path) -> dict[str, object]:
    """Everything below a folder: what it is, its content, when it was changed."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path.relative_to(folder))] = (state.st_mode, state.st_mtime_ns, content)
    return found


def test_a_dry_run_writes_nothing_and_says_what_it_would_do(here: Corpus, capsys) -> None:
    root = here.folder.parent
    (root / "work" / "birds" / "Aus aus_Alpha").mkdir(parents=True)
    shutil.copy(here.folder / "c0.wav", root / "work" / "birds" / "Aus aus_Alpha")
    (here.folder / "mine.txt").write_text("Aus aus_Alpha\n")
    dry, manifest = [*STAND_IN, "--dry-run"], str(here.manifest)
    new, old = "would make the store 'new'", "would go on with the store 'soft_labels'"

    def check(said: str, *flags: str, code: int = 0) -> None:
        before = tree(root)
        assert main(["run", *flags, *dry]) == code
        assert tree(root) == before
        assert said in capsys.readouterr().err

    check(f"nothing was written; without --dry-run the same command {new}", "-o", "new")
    check(new, "-o", "new", "--keep-classes", "mine.txt", "--components", "2")
    check("would make the store 'deep/er/new'", "-o", "deep/er/new", "--layout", "sparse", "--json")
    check("--finish closes a store, which --dry-run would not", "--finish", code=2)
    os.chdir(root / "work")
    check("would write data_manifest.csv, 1 clips", "birds")
    os.chdir(here.folder)
    assert run_stand_in() == 0
    check(old)
    here.write_audio("c6.wav", 0.2, seed=6)
    here.write_manifest(here.manifest.read_text() + "c6,c6.wav,,train\n")
    check(old, manifest)
    (here.folder / "soft_labels" / "receipts" / "00001.g0.json").unlink()
    check(old, manifest, "--jobs", "1")
    check("expected a folder, got a file", "-o", "c0.wav", code=2)


# --- --help and readers who leave

COMMANDS = ["run", "manifest", "classes", "inspect", "report", "verify", "regenerate", "export", "compare"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses_and_fits_80_columns(monkeypatch, capsys, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "what is printed:\n" in text
    examples = text.partition("examples:\n")[2].replace("\\\n", " ").splitlines()
    typed = [re.sub(" +", " ", line.strip()) for line in examples if line.startswith("  softlabels ")]
    assert typed
    for line in typed:
        words = shlex.split(line.partition("   ")[0].replace("$SLURM_ARRAY_TASK_ID", "1"))
        assert words[1] == command


def test_nothing_is_coloured(here: Corpus, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert run_stand_in() == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
