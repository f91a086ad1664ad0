"""A short kill storm: twenty SIGKILLs to workers, parent and group, and the store is as if nothing had happened."""

import sys

import pytest
from conftest import REPOSITORY


@pytest.mark.storms
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_store_survives_twenty_kills_and_is_the_one_of_an_undisturbed_run(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "benchmarks")
    import kill_storm

    figures = kill_storm.storm(tmp_path, kills=20, seed=7, clips=60)
    assert figures["wrong"] == [], figures
    assert sum(figures["kills_of"].values()) >= 20
    assert figures["shards"] == 40
