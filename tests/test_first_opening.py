"""Model files that kill their reader, hang it or take all memory: it happens once, in a process that can be lost."""

import base64
import hashlib
import logging
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.models import first_opening
from pipeline.models.first_opening import KNOWN, Opening, try_in_child
from pipeline.teachers import litert as litert_model
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice
from softlabels import TeacherError
from softlabels.errors import EnvironmentTrouble

TFLITE = zlib.decompress(
    base64.b85decode(
        b"c-qxc%}N4M6h7+Y4-Gbuhzl1kS`TTpE-?eaQ8009g0mRVF>DNjARi%G3DrJa_W-SXglOF}v}*d!oijE>FVLO&n0vpu=R3beBI=$r"
        b"_i|LCA{8h{2I=6^q+w6s0(ih@41Anulpw;Z7LK$JXu!Mg`x~;~25RkAuiiOrv|D|v-mM;2yH)7wN;@t0!n<R~?N4W}=Zx+Cr9HiH"
        b"CN3qxFW_?yJYm0-IM~L8FaDkZhQyMl>{^?-9mOUUmlQi*`Z`Zd<=VSn-8|-39|_4vQ&vP3vr;y9iQdE)YnIIerq+v<wLkp4C~k51"
        b"pRxS%{RdzRnOMz6r&OD`=#6I&O+ri5d=P3LR+ID33ePh$0?s2n8xI_pEuyx0Rac!h#kL@=EQm%>*OaO&o5rL^;r#I#?eRlCCOrSY"
        b"1&+k`9q#aNL;9EyU)SJyUK&Fi!{=R5M2GLZ{<4cp?9bpiCTrkXv(ZmX!7S!gO-QN|tdz=?wQ`~n)<IKGaGpo}8<DTBY7|Ty&uk{p"
        b"%6tRthIs}"
    )
)  # 16 samples -> relu of 3 sums, as TensorFlow 2.21 writes it
DEADLY = {  # LiteRT's own check of the file passes these; found among 8,000 mutants, see benchmarks/deadly_models.py
    "no subgraphs": [(14, 0), (16, 0)],
    "a table beyond its end": [(14, 0), (16, 0), (740, 128)],
    "no buffers": [(16, 0), (18, 0), (398, 0), (399, 0)],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "softlabels" / "opened"


def litert(folder: Path, content: bytes) -> TeacherChoice:
    (folder / "m.tflite").write_bytes(content)
    (folder / "labels.txt").write_text("A a_x\nB b_y\nC c_z")
    described = {"rate_hz": 8000, "activation": "sigmoid", "outputs": "logits"}
    return TeacherChoice(kind="litert", model=str(folder / "m.tflite"), labels=str(folder / "labels.txt"), **described)


@pytest.mark.parametrize("mutant", DEADLY)
def test_a_file_that_kills_its_reader_is_a_clear_error(tmp_path: Path, mutant: str, cache: Path) -> None:
    content = bytearray(TFLITE)
    for position, byte in DEADLY[mutant]:
        content[position] = byte
    with pytest.raises(TeacherError, match=r"m\.tflite': the model file kills its reader: signal 11 \(SIGSEGV\)"):
        load_teacher(litert(tmp_path, bytes(content)))
    assert not cache.exists()


def test_a_model_that_opens_well_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    choice = litert(tmp_path, TFLITE)
    assert load_teacher(choice).digest == hashlib.sha256(TFLITE).hexdigest()
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(first_opening, "_run_child", forbidden)
    load_teacher(choice)
    with pytest.raises(AssertionError, match="a child"):
        load_teacher(litert(tmp_path, TFLITE + b"\0"))


def forbidden(*_: object) -> None:
    raise AssertionError("a child")


def test_the_birdnet_that_everybody_has_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_opening, "_run_child", forbidden)
    try_in_child(Opening(kind="litert", model=b"", digest=next(iter(KNOWN)), shown="m"))


ENDS: dict[str, tuple[str, type[Exception], str]] = {
    "abort": ("os.abort()", TeacherError, r"kills its reader: signal 6 \(SIGABRT\)"),
    "bus": ("os.kill(os.getpid(), 7)", TeacherError, r"kills its reader: signal 7 \(SIGBUS\)"),
    "illegal": ("os.kill(os.getpid(), 4)", TeacherError, r"kills its reader: signal 4 \(SIGILL\)"),
    "killed": (
        "os.kill(os.getpid(), 9)",
        TeacherError,
        r"signal 9 \(SIGKILL, as the system does where memory is short\)",
    ),
    "hang": ("signal.alarm(1); time.sleep(60)", TeacherError, "keeps its reader busy for more than 1 s"),
    "deaf": ("time.sleep(60)", TeacherError, "keeps its reader busy for more than 1 s"),
    "no memory": ("sys.exit(11)", TeacherError, "asks for more memory than is free"),
    "no module": ("import no_such_module", EnvironmentTrouble, 'ended with "ModuleNotFoundError: No module named'),
    "strange": ("sys.exit(3)", EnvironmentTrouble, "the process that opens model 'm' first ended with"),
}


@pytest.mark.parametrize("end", ENDS)
def test_however_a_reader_ends_it_is_told(end: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    code, error, complaint = ENDS[end]
    monkeypatch.setattr(first_opening, "CHILD", f"import os, signal, sys, time; {code}")
    monkeypatch.setattr(first_opening, "MOST_S", 1)
    monkeypatch.setattr(first_opening, "GRACE_S", 0)
    with pytest.raises(error, match=complaint):
        try_in_child(Opening(kind="onnx", model=b"x", digest="d", shown="m"))
    assert not cache.exists()


def test_a_model_that_is_refused_there_is_not_opened_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(litert_model, "open_interpreter", forbidden)
    content = TFLITE.replace(b"main", b"niam")[:-40] + b"\xff" * 40
    with pytest.raises(TeacherError, match=r"m\.tflite': LiteRT cannot load it: "):
        load_teacher(litert(tmp_path, content))
    assert not cache.exists()


LEFT: dict[str, Callable[[Path], object]] = {
    "a file in place of the folder": lambda folder: (folder.parent.mkdir(parents=True), folder.write_text("")),
    "a link to nowhere": lambda folder: (folder.parent.mkdir(parents=True), folder.symlink_to("nowhere/at/all")),
}


@pytest.mark.parametrize("left", LEFT)
def test_a_cache_that_cannot_be_written_only_costs_time(
    monkeypatch: pytest.MonkeyPatch, cache: Path, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    LEFT[left](cache)
    monkeypatch.setattr(first_opening, "CHILD", "")
    with caplog.at_level(logging.INFO):
        try_in_child(Opening(kind="onnx", model=b"x", digest="d", shown="m"))
    assert "cannot be remembered" in caplog.text
