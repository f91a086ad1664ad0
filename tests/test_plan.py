import dataclasses
import math
import random
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY

from pipeline.planning.plan import default_shard_windows, lay_out_clip, pack_shards
from pipeline.planning.probe import FileProbe
from softlabels import Clip
from softlabels.records.plan_file import PlannedClip, decode_plan, encode_plan, plan_table, planned_clips
from softlabels.windows import WindowSpec, stretch

WINDOW = WindowSpec(rate_hz=16_000, window_samples=1600, hop_samples=1600)  # 0.1 s
PROBE = FileProbe(path="a.wav", size=1, sha256="ab" * 32, container="wav", frames=8000, rate_hz=8000, channels=1)


def clip(**changes: object) -> Clip:
    return Clip(**{"clip_id": "a", "path": "a.wav", **changes})


def test_windows_are_counted_at_the_teachers_rate() -> None:
    planned = lay_out_clip(clip(), PROBE, WINDOW)
    assert (planned.start, planned.end, planned.windows, planned.reason) == (0, 8000, 10, "")
    assert planned.span(16_000) == (0, 16_000)


def test_seconds_become_samples_of_the_files_own_rate_once() -> None:
    planned = lay_out_clip(clip(start_s=0.10004, end_s=0.35), PROBE, WINDOW)
    assert (planned.start, planned.end, planned.windows) == (800, 2800, 3)


def test_an_end_that_rounding_put_behind_the_file_means_the_end() -> None:
    assert lay_out_clip(clip(end_s=1.05), PROBE, WINDOW).end == 8000


def test_what_cannot_be_labelled_is_one_window_with_its_reason() -> None:
    cases = {
        "outside-file": [clip(start_s=2.0), clip(end_s=1.5)],
        "digest-mismatch": [clip(sha256="cd" * 32)],
        "empty": [clip(start_s=0.5, end_s=0.50001)],
    }
    for reason, clips in cases.items():
        for each in clips:
            planned = lay_out_clip(each, PROBE, WINDOW)
            assert (planned.windows, planned.reason) == (1, reason)
    missing = lay_out_clip(clip(), FileProbe(path="a.wav", reason="missing", detail="no file"), WINDOW)
    assert (missing.windows, missing.reason, missing.detail) == (1, "missing", "no file")


def laid_out(*windows: int) -> list[PlannedClip]:
    return [PlannedClip(shard=0, clip_id=f"c{i}", first_window=0, windows=n, path="a") for i, n in enumerate(windows)]


def packed(*windows: int, shard_windows: int = 4) -> list[tuple[int, str, int, int]]:
    clips = pack_shards(laid_out(*windows), shard_windows=shard_windows, first_shard=10)
    return [(c.shard, c.clip_id, c.first_window, c.windows) for c in clips]


def test_short_clips_stay_whole_and_long_ones_are_split() -> None:
    assert packed(3, 2, 9, 1) == [
        (10, "c0", 0, 3),
        (11, "c1", 0, 2),
        (12, "c2", 0, 4),
        (13, "c2", 4, 4),
        (14, "c2", 8, 1),
        (14, "c3", 0, 1),
    ]


def test_every_window_is_planned_once_and_no_shard_is_too_large() -> None:
    rng = random.Random(0)
    for _ in range(50):
        windows = [rng.choice([1, 2, 3, 7, 20]) for _ in range(30)]
        rows = packed(*windows, shard_windows=rng.choice([1, 3, 8]) if max(windows) else 1)
        seen = [(clip_id, first + i) for _, clip_id, first, n in rows for i in range(n)]
        assert sorted(seen) == sorted((f"c{i}", k) for i, n in enumerate(windows) for k in range(n))


def test_the_order_of_the_manifest_does_not_matter() -> None:
    clips = laid_out(3, 2, 9, 1, 5)
    shuffled = random.Random(1).sample(clips, len(clips))
    assert pack_shards(clips, shard_windows=4, first_shard=0) == pack_shards(shuffled, shard_windows=4, first_shard=0)


def test_shards_grow_with_the_corpus() -> None:
    assert [default_shard_windows(n) for n in (1, 74, 20_000, 100_000, 10**7)] == [64, 64, 128, 512, 1024]


def test_a_plan_file_reads_back_equal() -> None:
    clips = [dataclasses.replace(c, reason="missing", detail="ä") for c in laid_out(1, 2)]
    assert planned_clips(decode_plan(encode_plan(plan_table(clips)))) == clips
    assert encode_plan(plan_table(clips)) == encode_plan(plan_table(clips))


def test_reading_a_plan_starts_no_thread_which_a_quick_exit_could_abort(tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(encode_plan(plan_table(laid_out(1, 2))))
    code = "import os, softlabels.records.plan_file as p; threads = lambda: len(os.listdir('/proc/self/task')); "
    code += f"data = open({str(tmp_path / 'plan')!r}, 'rb').read(); "
    code += "before = threads(); p.decode_plan(data); print(threads() - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr


def test_a_join_finds_the_stretch_that_was_planned() -> None:
    generator = random.Random(0)
    for _ in range(500):
        rate_hz = generator.choice([8000, 22_050, 44_100, 48_000])
        start_s, end_s = round(generator.uniform(0, 0.5), 4), generator.choice([None, generator.uniform(0.6, 1.08)])
        probe = dataclasses.replace(PROBE, rate_hz=rate_hz, frames=rate_hz)
        planned = lay_out_clip(clip(start_s=start_s, end_s=end_s), probe, WINDOW)
        found = stretch([start_s], [math.nan if end_s is None else end_s], [rate_hz], [rate_hz])
        assert (planned.start, planned.end) == (found[0][0], found[1][0])
