"""Trust per class, and the warnings before soft labels do harm."""

import pickle

import numpy as np
import pytest
from conftest import Corpus, label
from made_labels import made_labels

import softlabels
from softlabels.evidence.ranking import average_precision


@pytest.mark.parametrize(
    ("present", "said", "expected"),
    [
        ([1, 1, 0, 0], [0.9, 0.8, 0.3, 0.1], 1.0),
        ([0, 1, 0, 1], [0.9, 0.8, 0.3, 0.1], (1 / 2 + 2 / 4) / 2),
        ([1, 0, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),  # nothing is told apart: the prevalence
        ([1, 0, 1, 0], [0.9, 0.9, 0.5, 0.5], (1 / 2 + 2 / 4) / 2),
        ([1], [0.1], 1.0),
    ],
)
def test_average_precision_is_that_worked_by_hand(present: list, said: list, expected: float) -> None:
    assert average_precision(np.array(present, bool), np.array(said, np.float32)) == pytest.approx(expected)


@pytest.fixture
def judged(tmp_path) -> softlabels.JoinedLabels:
    """A teacher that is right on class 0, blind on class 1, half right on class 2 and never asked about class 3.

    Ten positives each of 0 to 2 among 40 clips; class 3 is not annotated, or absent.
    """
    hard = np.zeros((40, 4), np.float32)
    for c in range(3):
        hard[10 * c : 10 * c + 10, c] = 1
    soft = np.where(hard == 1, 0.9, 0.1)
    soft[:, 1] = 0.5
    soft[20:25, 2] = 0.1
    hard[:20, 3] = np.nan
    return made_labels(tmp_path / "made", hard, soft)


def test_trust_is_skill_above_chance_drawn_towards_the_mean(judged) -> None:
    half = (5 / 5 * 5 + 10 / 40 * 5) / 10  # average precision: five in front, five in one rank of 35
    skill = np.array([1, 0, (half - 0.25) / 0.75])
    mean = skill.mean()
    expected = [*(10 * skill + 5 * mean) / 15, mean]
    labels = judged.trust()
    np.testing.assert_allclose(labels.class_trust, expected)
    assert judged.class_trust is None
    assert labels.fingerprint == judged.fingerprint


def test_a_teacher_that_is_worse_than_chance_has_no_trust_but_the_mean(judged, tmp_path) -> None:
    hard = judged.hard()
    soft = np.where(hard == 1, 0.1, 0.9)
    np.testing.assert_array_equal(made_labels(tmp_path / "worse", hard, soft).trust().class_trust, np.zeros(4))


def test_trust_goes_into_the_loss_and_wherever_labels_go(judged, tmp_path) -> None:
    labels = judged.trust()
    assert softlabels.DistillationLoss.for_labels(labels).trust.tolist() == labels.class_trust.tolist()
    exclusive = labels.exclusive()
    assert exclusive.class_trust[4] == pytest.approx(labels.class_trust.mean())
    loaded = softlabels.load_labels(exclusive.save(tmp_path / "saved"))
    for again in (loaded, pickle.loads(pickle.dumps(loaded))):
        np.testing.assert_array_equal(again.class_trust, exclusive.class_trust)
    asked = judged.exclusive().trust()  # the rest is a class like the others
    assert len(softlabels.DistillationLoss.for_labels(asked).trust) == 5


def test_calibration_makes_no_difference_to_trust(tmp_path) -> None:
    rng = np.random.default_rng(0)
    soft = rng.uniform(0.01, 0.5, (200, 3))
    hard = (rng.random((200, 3)) < soft * 1.8).astype(np.float32)
    labels = made_labels(tmp_path / "made", hard, soft)
    calibrated = labels.calibrate()
    assert calibrated.calibration.used != "none"
    np.testing.assert_allclose(calibrated.trust().class_trust, labels.trust().class_trust, atol=1e-9)


def test_few_positives_change_no_trust(tmp_path, caplog) -> None:
    labels = made_labels(tmp_path / "made", np.eye(9), np.eye(9))
    assert labels.trust() is labels
    assert "expected 10 annotated positives or more, got 9" in caplog.text


# --- warnings of a join


def joined(corpus: Corpus, clips: int, name: str, split: str = "") -> softlabels.JoinedLabels:
    """Clips of one window, so quiet that the stand-in hears little of Alpha (its level)."""
    lines = ["clip_id,path,label,split"]
    for i in range(clips):
        samples = np.random.default_rng(i).uniform(-0.01, 0.01, 800).astype(np.float32)
        corpus.write_samples(f"q{i}.wav", samples, subtype="FLOAT")
        lines.append(f"q{i},q{i}.wav,{name},{split}")
    corpus.write_manifest("\n".join(lines) + "\n")
    return label(corpus).join(corpus.manifest, canary=False)


def test_a_teacher_that_says_little_of_the_annotated_classes_is_a_warning_with_figures(corpus, caplog) -> None:
    labels = joined(corpus, 12, "Aus aus_Alpha")
    (note,) = labels.report.notes
    said = labels.soft()[:, 0].mean()
    assert "on 12 annotated clips the teacher's top class is right in 0%, and its mean probability of the" in note
    assert f"is {said:.2g}; try labels.calibrate()" in note
    assert note in caplog.text


def test_a_teacher_that_agrees_or_was_hardly_asked_is_no_warning(corpus) -> None:
    assert joined(corpus, 9, "Aus aus_Alpha").report.notes == ()


def test_a_teacher_that_hears_a_song_in_one_window_of_a_long_clip_is_no_warning(tmp_path) -> None:
    from softlabels.evidence.trust import harm_notes

    soft = np.full((200, 2), 0.01)
    soft[::20, 0] = 0.9
    labels = made_labels(tmp_path / "made", np.tile([1.0, 0.0], (200, 1)), soft, windows=20)
    assert harm_notes(labels._annotated(), {}) == []


def test_rows_that_the_teacher_was_trained_on_are_a_warning(corpus, caplog) -> None:
    labels = joined(corpus, 3, "Aus aus_Alpha", split="teacher")
    assert "3 rows have split 'teacher': the teacher was trained on them" in labels.report.notes[0]
    assert "3 rows have split 'teacher'" in caplog.text
