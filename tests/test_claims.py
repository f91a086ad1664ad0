"""Claims: one owner at a time, none for ever, and nobody waits for who has left."""

import threading
from pathlib import Path

import pytest

from pipeline.labelling.claims import Claim, Claims
from softlabels.storage.local import LocalStorage


class Clock:
    """Seconds that pass only when told."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pipeline.labelling.claims.time", clock)
    return clock


def silent(storage: LocalStorage) -> Claims:
    """Claims of a run that beats once, and then only when the test does it."""
    return Claims(storage, beat_s=3600, expiry_s=120)


def test_of_many_who_want_a_claim_at_once_one_takes_it(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    claims = [Claim("shard-00001", f"owner-{number}", 0) for number in range(16)]
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda c=claim: taken.append(c.take(storage))) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 15 + [True]


def test_a_claim_is_its_owners_again_and_nobody_elses(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with silent(storage) as mine, silent(storage) as other:
        claim = mine.free(["shard-00001"])["shard-00001"]
        assert claim.take(storage)
        assert mine.free(["shard-00001"]) == {"shard-00001": claim}
        assert claim.take(storage), "a worker that died leaves the claim to its run"
        assert set(other.free(["shard-00001", "shard-00002"])) == {"shard-00002"}


def test_a_claim_can_be_taken_over_once_its_owner_has_shown_no_life_for_long_enough(
    tmp_path: Path, clock: Clock
) -> None:
    storage = LocalStorage(tmp_path)
    with silent(storage) as dead, silent(storage) as other:
        assert dead.free(["shard-00001"])["shard-00001"].take(storage)
        assert other.free(["shard-00001"]) == {}
        clock.now = 119
        assert other.free(["shard-00001"]) == {}
        clock.now = 121
        over = other.free(["shard-00001"])["shard-00001"]
        assert (over.generation, over.owner) == (1, other.owner)
        assert over.take(storage)
        assert dead.free(["shard-00001"]) == {}, "whoever was thought dead does not fight for it"


def test_an_owner_that_beats_keeps_its_claim_for_ever(tmp_path: Path, clock: Clock) -> None:
    storage = LocalStorage(tmp_path)
    with silent(storage) as alive, silent(storage) as other:
        assert alive.free(["shard-00001"])["shard-00001"].take(storage)
        for number in range(1, 20):
            clock.now += 100
            alive._beat(number)
            assert other.free(["shard-00001"]) == {}


def test_who_ends_lets_go_at_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with silent(storage) as other:
        with silent(storage) as ended:
            assert ended.free(["shard-00001"])["shard-00001"].take(storage)
        assert other.free(["shard-00001"])["shard-00001"].generation == 1


def test_a_beat_goes_on_by_itself(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with Claims(storage, beat_s=0.01) as claims:
        for _ in range(500):
            if storage.get(f"claims/beat-{claims.owner}") != b"0":
                break
            threading.Event().wait(0.01)
        else:
            pytest.fail("no beat in five seconds")


def test_claims_that_vanish_while_they_are_read_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    with silent(storage) as mine, silent(storage) as other:
        assert mine.free(["shard-00001"])["shard-00001"].take(storage)
        listed = storage.list("claims")
        storage.sweep("claims", set(), older_than_s=-1)
        monkeypatch.setattr(storage, "list", lambda folder: listed)
        assert other.free(["shard-00001"])["shard-00001"].generation == 0
