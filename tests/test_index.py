"""The index against a slow reference that walks over every window of every plan."""

import itertools
import pickle
import random

import numpy as np
import pyarrow as pa
import pytest
from conftest import least_seconds

import softlabels
from pipeline.planning.plan import pack_shards
from softlabels.records.plan_file import PlannedClip, plan_table, planned_clips
from softlabels.records.quarantine import Quarantined
from softlabels.records.receipts import ReceiptHead
from softlabels.store.index import LABELLED, MISSING, QUARANTINED, StoreIndex, build_index, take_census
from softlabels.windows import WindowSpec

WINDOW = WindowSpec(rate_hz=16_000, window_samples=1600, hop_samples=1200)


def receipt(shard: int, quarantined: tuple[Quarantined, ...] = ()) -> ReceiptHead:
    return ReceiptHead(
        shard=shard, fingerprint="f", digest="d", size=1, rows=1, quarantined=quarantined, numerics_class="n"
    )


def random_clip(number: int, rng: random.Random) -> PlannedClip:
    """Up to three shards long, or unreadable and then one window."""
    readable = rng.random() < 0.8
    return PlannedClip(
        shard=0,
        clip_id=f"clip {number}",
        first_window=0,
        windows=rng.randint(1, 10) if readable else 1,
        path=f"{number}.wav",
        start=rng.randrange(100_000) if readable else 0,
        rate_hz=rng.choice([8000, 22_050, 48_000]) if readable else 0,
        sha256=f"{rng.random()}",
        reason="" if readable else "missing",
    )


def random_store(seed: int) -> tuple[list[pa.Table], dict[int, ReceiptHead]]:
    """A store that grew: clips come and are planned again; some shards are committed, with windows left out."""
    rng = random.Random(seed)
    plans, shards = [], 0
    for _ in range(rng.randint(1, 4)):
        clips = [random_clip(number, rng) for number in rng.sample(range(20), rng.randint(1, 12))]
        plans.append(pack_shards(clips, shard_windows=4, first_shard=shards))
        shards = plans[-1][-1].shard + 1
    receipts = {}
    for stretch in itertools.chain.from_iterable(plans):
        if rng.random() < 0.7 or stretch.shard in receipts:
            out = receipts.get(stretch.shard, receipt(stretch.shard)).quarantined
            if rng.random() < 0.3:
                first = stretch.first_window + rng.randrange(stretch.windows)
                windows = rng.randint(1, stretch.first_window + stretch.windows - first)
                out += (Quarantined(clip_id=stretch.clip_id, first_window=first, windows=windows, reason="hung"),)
            receipts[stretch.shard] = receipt(stretch.shard, out)
    return [plan_table(plan) for plan in plans], receipts


def reference(plans: list[pa.Table], receipts: dict[int, ReceiptHead]) -> list[tuple]:
    """(clip_id, window_index, state, shard, row, start_s) of every current window, one at a time."""
    rows, given = [], {}
    for number, plan in enumerate(plans):
        later = {clip_id for newer in plans[number + 1 :] for clip_id in newer["clip_id"].to_pylist()}
        for stretch in planned_clips(plan):
            for window_index in range(stretch.first_window, stretch.first_window + stretch.windows):
                if stretch.clip_id in later:
                    continue
                state = MISSING
                if stretch.shard in receipts:
                    out = receipts[stretch.shard].quarantined
                    state = (
                        QUARANTINED if any(is_in(entry, stretch.clip_id, window_index) for entry in out) else LABELLED
                    )
                first = 0 if stretch.reason else stretch.span(WINDOW.rate_hz)[0]
                start_s = (first + window_index * WINDOW.hop_samples) / WINDOW.rate_hz
                row = given.get(stretch.shard, 0)
                given[stretch.shard] = row + (state == LABELLED)
                rows.append((stretch.clip_id, window_index, state, stretch.shard, row, start_s))
    return rows


def is_in(entry: Quarantined, clip_id: str, window_index: int) -> bool:
    return entry.clip_id == clip_id and 0 <= window_index - entry.first_window < entry.windows


def entries_of(index: StoreIndex) -> list[tuple]:
    clip_ids = index.clips["clip_id"].to_numpy()
    columns = (clip_ids[index.stored_clip], index.window_index, index.state, index.shard, index.row, index.start_s())
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_the_index_is_what_a_walk_over_every_window_finds(seed: int) -> None:
    plans, receipts = random_store(seed)
    index = build_index(plans, receipts, WINDOW)
    expected = reference(plans, receipts)
    assert entries_of(index) == expected
    census = take_census(plans, receipts)
    assert [census.windows, census.labelled, census.quarantined, census.missing] == [len(expected)] + [
        sum(row[2] == state for row in expected) for state in (LABELLED, QUARANTINED, MISSING)
    ]


@pytest.mark.parametrize("seed", range(60))
def test_quarantine_counts_only_where_its_clip_was_planned_last(seed: int) -> None:
    plans, receipts = random_store(seed)
    current = {(row[0], row[3]) for row in reference(plans, receipts)}
    expected = [
        entry
        for shard, each in sorted(receipts.items())
        for entry in each.quarantined
        if (entry.clip_id, shard) in current
    ]
    assert list(take_census(plans, receipts).quarantine) == expected


@pytest.mark.parametrize("seed", range(60))
def test_clips_are_the_first_stretches_as_last_planned(seed: int) -> None:
    plans, receipts = random_store(seed)
    index = build_index(plans, receipts, WINDOW)
    last = {clip.clip_id: clip for plan in plans for clip in planned_clips(plan) if clip.first_window == 0}
    assert index.clips.schema == plans[0].schema
    assert {column.num_chunks for column in index.clips.columns} == {1}, "taking rows out of pieces is slow"
    assert planned_clips(index.clips) == [last[clip_id] for clip_id in index.clips["clip_id"].to_pylist()]
    assert take_census(plans, receipts).clips == index.clips


@pytest.mark.parametrize("seed", range(60))
def test_spans_hold_the_windows_of_their_clip_and_nothing_of_clips_never_planned(seed: int) -> None:
    plans, receipts = random_store(seed)
    index = build_index(plans, receipts, WINDOW)
    asked = [f"clip {number}" for number in random.Random(seed).choices(range(25), k=30)]
    expected = []
    for clip_id in asked:
        entries = [i for i, row in enumerate(entries_of(index)) if row[0] == clip_id]
        expected.append([entries[0], entries[-1] + 1] if entries else [0, 0])
    np.testing.assert_array_equal(index.spans_of(asked), expected)
    assert index.spans_of(asked).dtype == np.int64


def test_an_index_of_nothing_is_empty() -> None:
    index = build_index([], {3: receipt(3)}, WINDOW)
    assert (len(index), len(index.clips)) == (0, 0)
    assert index.spans_of(["a"]).tolist() == [[0, 0]]
    assert index.spans_of([]).shape == (0, 2)


def test_a_clip_id_that_is_no_text_is_refused(store) -> None:
    with pytest.raises(ValueError, match="clip_ids: expected text"):
        store.index.spans_of([7])


def test_the_index_takes_25_bytes_a_window(store) -> None:
    index = store.index
    arrays = (index.stored_clip, index.window_index, index.state, index.shard, index.row, index.start)
    assert sum(array.nbytes for array in arrays) == 25 * len(index)


def test_the_index_of_100_000_windows_is_laid_out_in_a_moment() -> None:
    clips = [PlannedClip(shard=0, clip_id=f"{n:06d}", first_window=0, windows=10, path="a") for n in range(10_000)]
    plan = plan_table(pack_shards(clips, shard_windows=1024, first_shard=0))
    assert len(build_index([plan], {}, WINDOW)) == 100_000
    # It takes a fifth of the time of as many tuples: an object a window would take several times as long.
    tuples = least_seconds(lambda: [(n, str(n)) for n in range(100_000)])
    assert least_seconds(lambda: build_index([plan], {}, WINDOW)) < 2 * tuples


def test_a_store_pickles_with_its_index(store) -> None:
    again = pickle.loads(pickle.dumps((store, store.index)))
    assert entries_of(again[1]) == entries_of(store.index)
    assert isinstance(again[0], softlabels.SoftLabelStore)
