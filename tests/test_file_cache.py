import hashlib
import os
import subprocess
import sys
import threading

import pytest

from softlabels.errors import EnvironmentTrouble
from softlabels.storage.file_cache import FileCache, user_cache


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def never() -> list[bytes]:
    pytest.fail("it was fetched")


def test_a_file_is_fetched_once_and_named_by_its_content(tmp_path) -> None:
    cache = FileCache(tmp_path, 1000)
    with cache.borrow(sha256(b"ab"), lambda: [b"a", b"b"]) as path:
        assert path == tmp_path / sha256(b"ab")
        assert path.read_bytes() == b"ab"
    with cache.borrow(sha256(b"ab"), never) as path:
        assert path.read_bytes() == b"ab"
    with cache.borrow("", lambda: [b"c"]) as path:
        assert path.name == sha256(b"c")


def test_a_damaged_file_is_fetched_again(tmp_path) -> None:
    cache = FileCache(tmp_path, 1000)
    (tmp_path / sha256(b"ab")).write_bytes(b"xx")
    with cache.borrow(sha256(b"ab"), lambda: [b"ab"]) as path:
        assert path.read_bytes() == b"ab"


def test_what_was_not_used_for_longest_goes_first(tmp_path) -> None:
    cache = FileCache(tmp_path, 100)
    for n in range(3):
        with cache.borrow("", lambda: [bytes([n]) * 40]):  # noqa: B023
            pass
        if n == 1:
            with cache.borrow(sha256(bytes(40)), never):
                pass
    assert {path.name for path in tmp_path.iterdir()} == {sha256(bytes(40)), sha256(bytes([2]) * 40)}


def test_a_file_in_use_elsewhere_stays(tmp_path) -> None:
    code = (
        "import sys, pathlib; from softlabels.storage.file_cache import FileCache\n"
        "with FileCache(pathlib.Path(sys.argv[1]), 100).borrow('', lambda: [b'x' * 90]):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    cache = FileCache(tmp_path, 100)
    with cache.borrow("", lambda: [b"y" * 90]):
        pass
    assert (tmp_path / sha256(b"x" * 90)).exists()
    holder.communicate("", timeout=10)
    with cache.borrow("", lambda: [b"z" * 90]) as path:
        assert path.exists()
    assert not (tmp_path / sha256(b"x" * 90)).exists()


def test_a_fetch_that_fails_leaves_nothing(tmp_path) -> None:
    def broken():
        yield b"half"
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError), FileCache(tmp_path, 100).borrow("", broken):
        pass
    assert list(tmp_path.iterdir()) == []


def test_threads_that_fetch_and_clear_never_lose_a_borrowed_file(tmp_path) -> None:
    cache, lost = FileCache(tmp_path, 300), []

    def work(seed: int) -> None:
        for n in range(200):
            data = bytes([(seed + n) % 11]) * 90
            with cache.borrow(sha256(data), lambda d=data: [d]) as path:
                if path.read_bytes() != data:
                    lost.append(path)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert lost == []


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentTrouble, match="XDG_CACHE_HOME"):
        FileCache(tmp_path / "file" / "cache", 100).borrow("", lambda: [b"1"]).__enter__()


def test_the_limit_is_taken_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("SOFTLABELS_CACHE_GB", "0.5")
    assert user_cache().limit == 500_000_000
    assert user_cache() is user_cache()
    assert str(user_cache().folder).startswith(os.environ["XDG_CACHE_HOME"])
    monkeypatch.setenv("SOFTLABELS_CACHE_GB", "much")
    with pytest.raises(ValueError, match="SOFTLABELS_CACHE_GB: expected a number of gigabytes, got 'much'"):
        user_cache()
