"""Calibrations that a teacher's authors publish: numbers by hand, names as in a join, faults all at once."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus
from standin import StandIn

import softlabels
from softlabels import JoinedLabels
from softlabels.calibration.published.parameters import published_map
from softlabels.errors import ClassListError
from softlabels.soft_label_store import SoftLabelStore


@pytest.fixture
def labels(corpus: Corpus, store: SoftLabelStore) -> JoinedLabels:
    return store.join(corpus.manifest)


def write(folder: Path, text: str) -> Path:
    path = folder / "calibration.csv"
    path.write_text(text)
    return path


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_probability(p: np.ndarray, a: float, b: float) -> np.ndarray:
    return sigmoid(-(a * p + b))


def by_log_odds(p: np.ndarray, slope: float, shift: float) -> np.ndarray:
    return sigmoid(slope * np.log(p / (1 - p)) + shift)


def test_a_class_gets_its_published_map_and_the_others_stay(tmp_path: Path, labels: JoinedLabels) -> None:
    for text, mapped, (a, b), (c, d) in (
        ("Taxon,A,B\nAus aus_Alpha,-11.5,6.25\nZus,-1,0\nCus cus_Cs,-7,.5", by_probability, (-11.5, 6.25), (-7, 0.5)),
        ("class,slope,shift\nCus cus_Cs,0,2\nAus aus_Alpha,1.5,-.25", by_log_odds, (1.5, -0.25), (0, 2)),
        ("name,n,Shift,Slope\nAus aus_Alpha,7,-.25,1.5\nCus cus_Cs,7,2,0", by_log_odds, (1.5, -0.25), (0, 2)),
    ):
        fitted = labels.calibrate(parameters=write(tmp_path, text))
        before, after = labels.soft().astype(np.float64), fitted.soft()
        np.testing.assert_allclose(after[:, 0], mapped(before[:, 0], a, b), rtol=1e-5)
        np.testing.assert_allclose(after[:, 2], mapped(before[:, 2], c, d), rtol=1e-5)
        np.testing.assert_array_equal(after[:, 1], labels.soft()[:, 1])
        np.testing.assert_array_equal(fitted.hard(), labels.hard())
        assert fitted.calibration.used == "published"
        told = "2 of 3 classes have the published map of 'calibration.csv'; 1 stay as they are: 'Bus"
        assert told in str(fitted.calibration)


def test_it_travels_with_saved_labels_and_before_exclusive(tmp_path: Path, labels: JoinedLabels) -> None:
    fitted = labels.calibrate(parameters=write(tmp_path, "Taxon,A,B\nAus aus_Alpha,-9,4\nBus bus_Beta,-8,3\n"))
    fitted.save(tmp_path / "saved")
    again = softlabels.load_labels(tmp_path / "saved")
    np.testing.assert_array_equal(again.soft(), fitted.soft())
    assert fitted.exclusive().activation == "softmax"
    with pytest.raises(ValueError, match="calibrated already"):
        fitted.calibrate()
    with pytest.raises(ValueError, match="calibrated already"):
        again.calibrate(parameters=tmp_path / "calibration.csv")


def test_codes_are_found_by_a_mapping_file(tmp_path: Path, labels: JoinedLabels) -> None:
    path = write(tmp_path, "Taxon,A,B\nalph1,-9,4\nbeta,-8,3\n")
    with pytest.raises(
        ClassListError, match=r"names none of the 3 classes .* but 'alph1', 'beta'; give a mapping file"
    ):
        labels.calibrate(parameters=path)
    mapping = tmp_path / "codes.csv"
    mapping.write_text("student_class,teacher_class\nAus aus_Alpha,alph1\nBus bus_Beta,beta\n")
    fitted = labels.calibrate(parameters=path, mapping=mapping)
    np.testing.assert_allclose(fitted.soft()[:, 1], sigmoid(8 * labels.soft()[:, 1].astype(np.float64) - 3), rtol=1e-5)


def test_what_nobody_said_stays_unsaid(tmp_path: Path, corpus: Corpus, store: SoftLabelStore) -> None:
    names = ["Aus aus_Alpha", "Bus bus_Beta", "Dus dus_Delta"]
    wider = store.join(corpus.manifest, classes=names, other_labels="absent")
    fitted = wider.calibrate(parameters=write(tmp_path, "Taxon,A,B\nDus dus_Delta,-9,4\nAus aus_Alpha,-9,4\n"))
    assert np.isnan(wider.soft()[:, 2]).all()
    assert np.isnan(fitted.soft()[:, 2]).all()
    assert np.isfinite(fitted.soft()[:, :2]).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "Taxon,A\nAlpha,1\n",
            "expected a heading with the name of a class, then slope and shift, or A and B, got 'Taxon, A'",
        ),
        ("A,B\n1,2\n", "expected a heading"),
        ("Taxon,A,B\nAlpha,1,2\n", "line 2: 'Alpha': expected a A of 0 or less and a B"),
        ("c,slope,shift\nAlpha,-1,2\n", "line 2: 'Alpha': expected a slope of 0 or more"),
        ("c,slope,shift\nAlpha,nan,2\nBeta,1,inf\nGamma,x,1\n", "3 faults"),
        ("c,slope,shift\nAlpha,1,2\nAlpha,1,2\n", "'Alpha' is given again"),
        ("c,slope,shift\n,1,2\n", "no name"),
        ("c,slope,shift\nAlpha,1\nBeta,1,1\n", "line 2"),
        ("", "expected"),
    ],
)
def test_a_faulty_table_is_a_clear_error(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ClassListError, match=complaint):
        published_map(write(tmp_path, text), StandIn.classes)


def test_it_is_of_windows_of_independent_classes(tmp_path: Path, corpus: Corpus, store: SoftLabelStore) -> None:
    path = write(tmp_path, "Taxon,A,B\nAus aus_Alpha,-9,4\n")
    for labels in (store.join(corpus.manifest, windows="mean"), store.join(corpus.manifest).exclusive()):
        with pytest.raises(ValueError, match="published calibration is of windows of independent classes"):
            labels.calibrate(parameters=path)
    assert store.join(corpus.manifest, windows="max").calibrate(parameters=path).calibration.used == "published"
