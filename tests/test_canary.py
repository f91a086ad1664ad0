import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from canary_cases import (
    RIGHT,
    WRONG_ALL,
    WRONG_IN_PART,
    WRONG_WEAK,
    Case,
    confuses,
    permuted,
    several_labels,
    sigmoid,
    spoiled,
    strong,
    weak,
)

from softlabels.evidence.agreement import teacher_label_agreement
from softlabels.evidence.canary import Canary, alignment_canary


def joined(
    rows: int = 400, classes: int = 8, *, heard: float = 0.7, seed: int = 0, share: list[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(soft, hard): one annotated class a row, which the teacher hears in a part of them; quiet elsewhere."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(rows) % classes) if share is None else rng.choice(classes, rows, p=share)
    hard = np.eye(classes, dtype=np.float32)[label]
    log_odds = rng.normal(-5, 1.5, (rows, classes)) + 7 * hard * (rng.random((rows, 1)) < heard)
    return (1 / (1 + np.exp(-log_odds))).astype(np.float32), hard


def verdict(soft: np.ndarray, hard: np.ndarray, **options: object) -> str:
    return alignment_canary(soft, hard, **options).verdict


def test_a_right_join_passes() -> None:
    canary = alignment_canary(*joined())
    assert (canary.verdict, canary.p_rows, canary.p_classes) == ("aligned", 0.001, 0.001)
    assert (canary.rows, canary.groups, canary.classes) == (400, 400, 8)
    assert str(canary).startswith("alignment: aligned (mean probability of the annotated classes 0.")


def test_the_means_are_those_of_the_definition() -> None:
    soft, hard = joined()
    canary = alignment_canary(soft, hard)
    assert canary.mean_probability == pytest.approx(soft[hard == 1].mean())
    assert canary.mean_rows_permuted == pytest.approx(soft.mean(), rel=0.05)  # all classes are equally frequent
    assert canary.mean_classes_permuted == pytest.approx(soft.mean(), rel=0.05)


@pytest.mark.parametrize("classes", [2, 5, 8, 50])
def test_rows_shifted_by_one_are_misaligned(classes: int) -> None:
    soft, hard = joined(20 * classes + 60, classes)
    assert verdict(np.roll(soft, 1, axis=0), hard) == "misaligned"


def test_shuffled_rows_are_misaligned() -> None:
    soft, hard = joined()
    assert verdict(np.random.default_rng(1).permutation(soft), hard) == "misaligned"


@pytest.mark.parametrize("classes", [2, 3, 8, 9, 50])
def test_a_reversed_class_list_is_misaligned(classes: int) -> None:
    soft, hard = joined(25 * classes, classes)
    assert verdict(soft, hard) == "aligned"
    assert verdict(soft[:, ::-1], hard) == "misaligned"


@pytest.mark.parametrize("classes", [2, 4, 8, 50])
def test_two_equally_frequent_classes_swapped_are_misaligned_and_named(classes: int) -> None:
    soft, hard = joined(25 * classes, classes)
    soft[:, [0, 1]] = soft[:, [1, 0]]
    canary = alignment_canary(soft, hard)
    assert (canary.verdict, canary.swapped) == ("misaligned", ((0, 1),))
    assert "classes 0 and 1 look exchanged" in str(canary)


def test_a_class_inserted_in_the_middle_of_the_list_is_misaligned() -> None:
    soft, hard = joined(400, 10)
    assert verdict(np.concatenate([soft[:, :6], soft[:, :1], soft[:, 6:9]], axis=1), hard) == "misaligned"


def test_the_order_of_equally_annotated_clips_is_found_wrong_clip_by_clip() -> None:
    """300 windows of 30 clips, clips dealt out at random: windows counted as independent would often pass."""
    verdicts = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        clip = np.repeat(np.arange(30), 10)
        hard = np.eye(2, dtype=np.float32)[clip % 2]
        of_clip = rng.normal(-2, 2, (30, 2))[clip] + rng.normal(0, 0.3, (300, 2))  # nothing to do with the label
        soft = (1 / (1 + np.exp(-of_clip))).astype(np.float32)
        verdicts.append((alignment_canary(soft, hard).p_rows, verdict(soft, hard, groups=clip)))
    unaware, aware = zip(*verdicts, strict=True)
    assert aware.count("aligned") <= 2
    assert sum(p < 0.01 for p in unaware) >= 8


def test_windows_of_one_clip_count_apart_where_their_labels_differ() -> None:
    soft, hard = joined(400)
    assert 300 < alignment_canary(soft, hard, groups=np.zeros(400, int)).groups < 400
    assert alignment_canary(soft, np.repeat(hard[::10], 10, axis=0), groups=np.zeros(400, int)).groups <= 40


@pytest.mark.parametrize(
    ("rows", "groups"),
    [(0, None), (38, None), (200, np.arange(200) // 20)],  # no row; 19 a class; ten a class, but of five clips
)
def test_too_few_rows_or_clips_are_not_testable(rows: int, groups: np.ndarray | None) -> None:
    soft, _ = joined(rows, 2)
    label = np.arange(rows) % 2 if groups is None else groups % 2
    canary = alignment_canary(soft, np.eye(2, dtype=np.float32)[label], groups=groups)
    assert (canary.verdict, canary.p_rows, canary.p_classes) == ("not testable", None, None)
    assert "not testable" in str(canary)


def test_one_class_is_not_testable() -> None:
    soft, hard = joined(400, share=[1, 0, 0, 0, 0, 0, 0, 0])
    assert verdict(soft, hard) == "not testable"


def test_with_few_classes_only_rows_are_permuted() -> None:
    canary = alignment_canary(*joined(400, 5))
    assert (canary.verdict, canary.p_classes, canary.mean_classes_permuted) == ("aligned", None, None)
    assert "class axis not testable" in str(canary)


def test_a_teacher_that_says_the_same_everywhere_does_not_convince() -> None:
    soft, hard = joined(share=[0.65] + [0.05] * 7)
    same = np.broadcast_to(soft[0], soft.shape)
    canary = alignment_canary(same, hard)
    assert (canary.verdict, canary.p_rows) == ("not convinced", 1.0)
    assert alignment_canary(np.full_like(soft, 0.5), hard).p_rows == 1.0


def test_an_order_of_classes_that_the_teacher_cannot_tell_from_others_does_not_convince() -> None:
    """It hears whether one of the classes 0 to 2 or one of 3 to 5 calls: (3! * 3!) of 6! orders do as well."""
    _, hard = joined(300, 6)
    kind = hard[:, :3].max(axis=1, keepdims=True)
    canary = alignment_canary(np.repeat(np.hstack([kind, 1 - kind]), 3, axis=1) * 0.9, hard)
    assert (canary.verdict, canary.p_rows, canary.p_classes) == ("not convinced", 0.001, 36 / 720)
    assert canary.findings[0] == "other orders of the classes do as well"


@pytest.mark.parametrize("seed", range(10))
def test_a_weak_but_honest_teacher_passes(seed: int) -> None:
    soft, hard = joined(400, heard=0.15, seed=seed)  # silent in 85 of 100 rows
    assert verdict(soft, hard) == "aligned"


@pytest.mark.parametrize("seed", range(10))
def test_a_teacher_that_is_never_sure_passes(seed: int) -> None:
    _, hard = joined(160, 4, seed=seed)
    noise = np.random.default_rng(seed).normal(-12, 3, hard.shape)
    soft = np.exp(np.minimum(noise + 2.2 * hard, -2)).astype(np.float32)  # an AUC of 0.7; few above 0.01
    assert verdict(soft, hard) == "aligned"


def test_a_dominant_class_and_a_favourite_of_the_teacher_decide_nothing() -> None:
    """The teacher says class 1 everywhere, class 0 is nearly always annotated; otherwise it is right."""
    soft, hard = joined(2_000, share=[0.86] + [0.02] * 7)
    soft[:, 1] = 0.5 + 0.5 * soft[:, 1]
    assert verdict(soft, hard) == "aligned"
    assert verdict(soft[:, [1, 2, 3, 4, 5, 6, 7, 0]], hard) == "misaligned"
    assert verdict(np.roll(soft, 1, axis=0), hard) == "misaligned"


def test_classes_that_the_teacher_is_deaf_to_are_no_alarm() -> None:
    for seed in range(20):
        soft, hard = joined(400, seed=seed)
        soft[:, :3] = joined(400, heard=0, seed=seed + 100)[0][:, :3]
        assert verdict(soft, hard) == "aligned"


def test_rows_with_several_labels_pass_and_fail_as_they_should() -> None:
    soft, hard = joined(400)
    more_soft, more_hard = joined(400, seed=1)
    soft, hard = np.maximum(soft, more_soft), np.maximum(hard, more_hard)
    assert verdict(soft, hard) == "aligned"
    assert verdict(soft[:, ::-1], hard) == "misaligned"
    assert verdict(np.roll(soft, 1, axis=0), hard) == "misaligned"


def test_what_is_unknown_does_not_count() -> None:
    soft, hard = joined()
    plain = alignment_canary(soft, hard)
    soft = np.concatenate([soft, np.full((100, 8), np.nan, np.float32), soft[:100]])
    hard = np.concatenate([hard, hard[:100], np.full((100, 8), np.nan, np.float32)])
    nobody = np.full((600, 1), np.nan, np.float32)  # a class that the teacher lacks
    assert alignment_canary(np.append(soft, nobody, axis=1), np.append(hard, nobody + 1, axis=1)) == plain


def test_single_unknown_values_are_no_opinion() -> None:
    soft, hard = joined()
    soft[np.random.default_rng(0).random(soft.shape) < 0.1] = np.nan
    assert verdict(soft, hard) == "aligned"
    assert verdict(np.roll(soft, 1, axis=0), hard) == "misaligned"


@pytest.mark.parametrize("classes", [2, 8])
def test_one_wrong_join_in_a_hundred_passes_and_no_more(classes: int) -> None:
    passed = sum(
        verdict(np.random.default_rng(seed).permutation(soft), hard) == "aligned"
        for seed in range(80)
        for soft, hard in [joined(120 if classes == 2 else 180, classes, seed=seed)]
    )
    assert passed <= 5  # 0.8 expected at most; more than 5 in one of 3,000 runs


def verdicts(case: Callable[[int], Case], draws: int) -> list[str]:
    found = []
    for seed in range(draws):
        soft, hard, groups = case(seed)
        found.append(verdict(soft, hard, groups=groups, seed=seed))
    return found


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permutations for p = 1 / 200, in a fifth of the time."""
    monkeypatch.setattr("softlabels.evidence.canary.PERMUTATIONS", 199)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_join_is_not_refused(fewer, name: str) -> None:
    """More draws of each: tests/benchmarks/canary_rates.py."""
    found = verdicts(RIGHT[name], 12)
    assert "misaligned" not in found
    if not any(doubtful in name for doubtful in ("takes the rest", " rows", "weak")):
        assert found.count("aligned") >= 11


@pytest.mark.parametrize("name", WRONG_ALL)
def test_a_wrong_join_with_a_strong_teacher_is_refused(fewer, name: str) -> None:
    assert set(verdicts(WRONG_ALL[name], 6)) == {"misaligned"}


@pytest.mark.parametrize("name", WRONG_IN_PART)
def test_a_join_that_is_wrong_in_part_is_noticed(fewer, name: str) -> None:
    found = verdicts(WRONG_IN_PART[name], 20)
    assert found.count("aligned") <= (0 if "95%" in name else 1)


@pytest.mark.parametrize("name", WRONG_WEAK)
def test_a_wrong_join_with_a_weak_teacher_does_not_convince(fewer, name: str) -> None:
    assert verdicts(WRONG_WEAK[name], 12).count("aligned") <= 1


@pytest.mark.parametrize("case", [strong, several_labels, confuses])
@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.8])
def test_the_share_of_permuted_rows_is_estimated(fewer, case: Callable[[int], Case], share: float) -> None:
    held, shares = 0, []
    for seed in range(20):
        soft, hard, _ = spoiled(case, permuted(share))(seed)
        estimate, low, high = alignment_canary(soft, hard, seed=seed).answers.permuted
        held += low <= share <= high
        shares.append(estimate)
    assert held >= 17
    assert np.mean(shares) == pytest.approx(share, abs=0.04)


def test_what_was_seen_is_said_in_one_line_and_the_rows_to_look_at_are_named() -> None:
    soft, hard, _ = spoiled(strong, permuted(0.3))(0)
    canary = alignment_canary(soft, hard)
    text = str(canary)
    assert "contradict the labels" in text
    assert f"as if {canary.answers.permuted[0]:.0%} (" in text
    assert text.endswith("too many confident answers contradict the labels)")
    assert "\n" not in text
    assert 1 <= len(canary.contradicted) <= 5
    for row in canary.contradicted:
        assert soft[row].max() >= 0.8
        assert hard[row, soft[row].argmax()] == 0


def test_a_teacher_with_small_probabilities_finds_classes_exchanged() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        _, hard = joined(400, 4, seed=seed)
        soft = sigmoid(rng.normal(-12, 1.5, hard.shape) + 4 * hard)  # 0.0003 at most times
        assert soft.max() < 0.2
        assert verdict(soft, hard) == "aligned"
        assert verdict(soft[:, [1, 0, 2, 3]], hard) == "misaligned"


def test_three_classes_in_each_others_places_are_refused() -> None:
    soft, hard = joined(400, 10)
    canary = alignment_canary(soft[:, [0, 1, 2, 3, 5, 6, 4, 7, 8, 9]], hard)
    assert canary.verdict == "misaligned"
    assert set(sum(canary.swapped, ())) == {4, 5, 6}


def test_a_class_that_is_taken_for_another_is_no_exchange() -> None:
    """Neither where the other is known as well, nor where the teacher is deaf to it."""
    for deaf in (False, True):
        _, hard = joined(800, 8)
        heard = hard.copy()
        heard[:, 1] = hard[:, 0] + (0 if deaf else 0.8) * hard[:, 1]
        heard[:, 0] = 0
        soft = sigmoid(np.random.default_rng(1).normal(-5, 1.5, hard.shape) + 7 * heard)
        canary = alignment_canary(soft, hard)
        assert (canary.verdict, canary.swapped) == ("aligned", ())


def test_one_class_out_of_place_is_no_proof() -> None:
    """0 is taken for 1, and 1 for 2, to which the teacher is deaf: strange, but nothing that a wrong list would do."""
    _, hard = joined(800, 8)
    heard = hard.copy()
    heard[:, :3] = np.stack([0 * hard[:, 0], hard[:, 0], hard[:, 1]], axis=1)
    soft = sigmoid(np.random.default_rng(1).normal(-5, 1.5, hard.shape) + 7 * heard)
    canary = alignment_canary(soft, hard)
    assert (canary.verdict == "misaligned", canary.swapped) == (False, ())


@pytest.mark.parametrize("step", [-1, 1])
def test_the_labels_of_neighbours_are_found_with_a_teacher_that_is_never_sure(step: int) -> None:
    soft, hard, _ = weak("faint", 5, 1200)(0)
    canary = alignment_canary(np.roll(soft, step, axis=0), hard)
    assert canary.verdict == "misaligned"
    assert "the labels of the row before or after fit better" in str(canary)


def test_a_teacher_without_a_confident_answer_contradicts_nothing() -> None:
    with np.errstate(divide="raise", invalid="raise"):
        canary = alignment_canary(*weak("faint", 5, 400)(0)[:2])
    assert (canary.verdict, canary.answers.count, canary.answers.permuted) == ("aligned", 0, None)
    assert "no answer above 0.8" in str(canary)


def test_what_nobody_annotated_contradicts_nothing() -> None:
    """Single labels where other classes are unknown, not absent: a confident other answer is no contradiction."""
    soft, hard = joined()
    soft[:, 1] = np.maximum(soft[:, 1], 0.95)
    unknown = np.where(hard == 1, hard, np.nan)
    canary = alignment_canary(soft, unknown)
    assert canary.answers.count == canary.answers.right > 0
    assert canary.answers.permuted is None
    assert canary.verdict == "aligned"


def test_the_same_seed_gives_the_same_canary() -> None:
    soft, hard = joined(heard=0.05)
    assert alignment_canary(soft, hard, seed=3) == alignment_canary(soft, hard, seed=3)


def test_of_many_rows_and_classes_a_bounded_part_is_used() -> None:
    soft, hard = joined(30_000, 210)
    tracemalloc.start()
    canary = alignment_canary(soft, hard)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert canary.verdict == "aligned"
    assert canary.classes == 200
    assert canary.rows <= 20_000
    assert peak < 100e6


def test_shapes_that_do_not_fit_are_refused() -> None:
    soft, hard = joined(40)
    with pytest.raises(ValueError, match=r"two equal shapes"):
        alignment_canary(soft, hard[:, :1])
    with pytest.raises(ValueError, match=r"groups: expected one number a row"):
        alignment_canary(soft, hard, groups=np.zeros(3))


def test_an_empty_canary_prints() -> None:
    assert str(Canary(verdict="not testable", mean_probability=None, rows=0, groups=0, classes=0)) == (
        "alignment: not testable (0 annotated rows in 0 stretches, 0 classes)"
    )


def test_agreement_by_hand() -> None:
    nan = np.nan
    soft = np.array([[0.9, 0.1, nan], [0.2, 0.4, nan], [0.5, 0.5, nan], [0.3, 0.6, nan], [nan, nan, nan]], np.float32)
    hard = np.array([[1, 0, 1], [1, nan, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    found = teacher_label_agreement(soft, hard)
    assert found.rows == 3  # not the fourth: the teacher lacks its class; not the last: the teacher said nothing
    assert found.top1 == pytest.approx((1 + 0 + 0.5) / 3)  # a tie of two counts half
    assert found.annotated.tolist() == [2, 1, 0]
    np.testing.assert_allclose(found.mean_present, [0.55, 0.5, nan])
    np.testing.assert_allclose(found.mean_absent, [0.4, 0.35, nan])


def test_agreement_of_nothing_is_unknown() -> None:
    found = teacher_label_agreement(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    assert (found.rows, np.isnan(found.top1)) == (0, True)


def test_agreement_in_blocks_is_agreement_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = joined()
    whole = teacher_label_agreement(soft, hard)
    monkeypatch.setattr(
        "softlabels.evidence.agreement.row_blocks", lambda rows, _: (slice(i, i + 7) for i in range(0, rows, 7))
    )
    blocks = teacher_label_agreement(soft, hard)
    assert (blocks.rows, blocks.top1) == (whole.rows, pytest.approx(whole.top1))
    np.testing.assert_allclose(blocks.mean_absent, whole.mean_absent)
