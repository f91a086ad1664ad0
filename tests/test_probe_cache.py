"""The probe cache may be a stranger's: what cannot have been written there is probed again."""

import dataclasses
import json
import os

import pytest
from conftest import Corpus

import pipeline.planning.probe_files as module
from pipeline.planning.probe import FileProbe, probe_file

LIES = {
    "frames": 0, "frames ": -7, "frames  ": 2**70, "frames   ": "900", "frames    ": 900.0, "rate_hz": 0,
    "rate_hz ": 10**9, "rate_hz  ": None, "channels": 99, "channels ": True, "size": 1, "mtime_ns": "0", "etag": None,
    "sha256": "../../x", "sha256 ": "A" * 64, "sha256  ": 5, "container": ["wav"], "note": {}, "reason": "empty",
    "trouble": "no such mount", "more": 1, "container ": "mp3",  # as no version has probed it for long
}  # fmt: skip


@pytest.fixture
def true(corpus: Corpus) -> FileProbe:
    return probe_file(corpus.folder, "c0.wav")


def probed(corpus: Corpus, line: bytes, monkeypatch) -> tuple[FileProbe, int]:
    """What is known of c0.wav with this line in the cache, and how many files were opened for it."""
    cache, opened = corpus.folder / "probe_cache.jsonl", []
    cache.write_bytes(line + b"\n")
    monkeypatch.setattr(module, "probe_file", lambda *where: opened.append(where) or probe_file(*where))
    return module.probe_files(corpus.folder, ["c0.wav"], cache=cache)["c0.wav"], len(opened)


def test_a_line_that_was_written_here_is_believed(corpus: Corpus, true: FileProbe, monkeypatch) -> None:
    assert probed(corpus, json.dumps(dataclasses.asdict(true)).encode(), monkeypatch) == (true, 0)


@pytest.mark.parametrize("field", LIES)
def test_a_line_that_cannot_have_been_is_not(corpus: Corpus, true: FileProbe, field: str, monkeypatch) -> None:
    line = json.dumps({**dataclasses.asdict(true), field.strip(): LIES[field]}).encode()
    assert probed(corpus, line, monkeypatch) == (true, 1)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"path": ' * 100_000, b"\xff\xfe", b"[]", b"7", b"null", b'{"size": NaN}']
)
def test_what_is_no_line_at_all_is_passed_over(corpus: Corpus, true: FileProbe, line: bytes, monkeypatch) -> None:
    assert probed(corpus, line, monkeypatch) == (true, 1)


def test_a_cache_without_end_is_not_read_to_its_end(corpus: Corpus, true: FileProbe, monkeypatch) -> None:
    cache = corpus.folder / "probe_cache.jsonl"
    cache.touch()
    os.truncate(cache, 1 << 40)  # sparse
    assert module.probe_files(corpus.folder, ["c0.wav"], cache=None)["c0.wav"] == true
    assert module._read_cache(cache, module.DEFAULT_BUDGET) == {}
