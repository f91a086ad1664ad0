"""Metrics for packed targets, alone and inside `fit`; the alpha schedule."""

import keras
import numpy as np
import pytest

from softlabels.loss.distillation import DistillationLoss
from softlabels.loss.metrics import HardLabelMetric, TeacherAgreement
from softlabels.loss.schedule import AlphaSchedule

NAN = np.nan
HARD = np.float32([[1, 0, 0], [0, 1, 0], [NAN, NAN, NAN], [0, 0, 1]])
SOFT = np.float32([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [NAN, NAN, NAN]])
PACKED = np.concatenate([HARD, SOFT], axis=1)
OUTPUTS = np.float32([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.1, 0.3, 0.6]])


def test_hard_label_metric_sees_the_hard_half_without_the_unannotated_rows():
    metric = HardLabelMetric("accuracy")
    metric.update_state(PACKED, OUTPUTS)
    assert float(metric.result()) == pytest.approx(2 / 3)  # rows 0 and 3 right, 1 wrong, 2 not annotated
    metric.reset_state()
    metric.update_state(PACKED, OUTPUTS, sample_weight=np.float32([1, 3, 5, 1]))
    assert float(metric.result()) == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    "metric",
    [
        keras.metrics.AUC(multi_label=True, num_labels=3),
        keras.metrics.AUC(),
        keras.metrics.F1Score("macro", 0.5),
        "binary_crossentropy",
        keras.metrics.BinaryAccuracy(),
        keras.metrics.categorical_crossentropy,
        {"class_name": "TopKCategoricalAccuracy", "config": {"k": 2}},
    ],
)
def test_any_keras_metric_gives_what_it_gives_on_the_annotated_rows(metric):
    wrapped = HardLabelMetric(metric)
    wrapped.update_state(PACKED, OUTPUTS)
    got = np.asarray(wrapped.result())
    wrapped.reset_state()
    known = [0, 1, 3]
    wrapped.update_state(HARD[known], OUTPUTS[known])  # plain hard targets
    np.testing.assert_allclose(got, np.asarray(wrapped.result()), rtol=1e-6)


def test_teacher_agreement_equals_the_numbers_worked_by_hand():
    metric = TeacherAgreement("softmax")
    metric.update_state(PACKED, OUTPUTS)
    # Tops: 0 = 0, 1 != 0, 2 = 2, the silent row is left out.
    kl = [float((SOFT[i] * np.log(SOFT[i] / OUTPUTS[i])).sum()) for i in range(3)]
    assert {name: float(value) for name, value in metric.result().items()} == pytest.approx(
        {"teacher_agreement": 2 / 3, "teacher_kl": np.mean(kl)}, rel=1e-5
    )
    metric.reset_state()
    metric.update_state(PACKED, OUTPUTS, sample_weight=np.float32([1, 3, 0, 7]))
    assert float(metric.result()["teacher_agreement"]) == pytest.approx(0.25)
    assert float(metric.result()["teacher_kl"]) == pytest.approx((kl[0] + 3 * kl[1]) / 4, rel=1e-5)


def test_teacher_agreement_looks_at_the_covered_classes_only():
    row = np.float32([[1, 0, 0, NAN, 0.7, 0.2]])
    outputs = np.float32([[0.98, 0.6, 0.3]])
    metric = TeacherAgreement("sigmoid")
    metric.update_state(row, outputs)
    q, p = np.array([0.7, 0.2]), np.array([0.6, 0.3])
    kl = (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).mean()
    assert float(metric.result()["teacher_agreement"]) == 1.0
    assert float(metric.result()["teacher_kl"]) == pytest.approx(kl, rel=1e-5)


def test_teacher_agreement_skips_plain_hard_targets():
    metric = TeacherAgreement("sigmoid")
    metric.update_state(HARD, OUTPUTS)
    assert float(metric.result()["teacher_kl"]) == 0.0


def test_metrics_refuse_targets_of_another_width():
    for metric in (HardLabelMetric("accuracy"), TeacherAgreement()):
        with pytest.raises(ValueError, match=r"y_true \(4, 4\)"):
            metric.update_state(np.zeros((4, 4), np.float32), OUTPUTS)


def student(metrics, loss=None):
    """A linear sigmoid student that never learns."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="sigmoid")])
    model.compile(keras.optimizers.SGD(0.0), loss or DistillationLoss(0.5, 1.0, None, "sigmoid"), metrics=metrics)
    return model


def test_metrics_work_in_fit_with_weights_and_survive_saving(tmp_path):
    x = np.float32([[1, 2], [3, -1], [0, 1], [2, 2]])
    model = student(
        [HardLabelMetric(keras.metrics.AUC(multi_label=True, name="auc")), TeacherAgreement("sigmoid", name="birdnet")]
    )
    weights = np.float32([1, 2, 1, 1])
    logs = model.fit(x, PACKED, sample_weight=weights, validation_data=(x, HARD), verbose=0).history
    assert {"auc", "birdnet_agreement", "birdnet_kl", "val_auc"} <= set(logs)
    model.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    before, after = (m.evaluate(x, PACKED, return_dict=True, verbose=0) for m in (model, loaded))
    assert after == pytest.approx(before, rel=1e-6)
    assert "auc" in after


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("constant", [1.0] * 5), ("linear", [1, 0.75, 0.5, 0.25, 0]), ("cosine", [1, 0.853553, 0.5, 0.146447, 0])],
)
def test_each_schedule_gives_its_curve_and_stays_at_its_end(kind, expected):
    schedule = AlphaSchedule(1.0, 0.0, kind=kind)
    assert [schedule.alpha_at(epoch, 5) for epoch in range(5)] == pytest.approx(expected, abs=1e-6)
    assert schedule.alpha_at(9, 5) == pytest.approx(expected[-1], abs=1e-9)
    assert schedule.alpha_at(0, 1) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 1.5}, r"start in \[0, 1\]; got 1.5"),
        ({"start": 1.0, "end": NAN}, r"end in \[0, 1\]; got nan"),
        ({"start": 1.0, "kind": "steps"}, "kind 'constant', 'linear' or 'cosine'; got 'steps'"),
        ({"start": 1.0, "epochs": 0}, "at least 1 epoch; got 0"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AlphaSchedule(**arguments)


def test_the_schedule_acts_on_a_training_that_is_already_traced():
    x = np.float32([[1, 2], [3, -1], [0, 1], [2, 2]])
    loss = DistillationLoss(0.9, 1.0, None, "sigmoid")
    model = student([], loss)
    model.fit(x, PACKED, verbose=0)
    logs = model.fit(x, PACKED, epochs=3, verbose=0, callbacks=[AlphaSchedule(0.0, 1.0)]).history["loss"]
    assert loss.alpha == 1.0
    for alpha, seen in zip((0.0, 0.5, 1.0), logs, strict=True):
        loss.alpha = alpha
        assert seen == pytest.approx(float(loss(PACKED, model(x))), rel=1e-5)


def test_the_schedule_refuses_a_model_with_another_loss():
    x = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="compiled with one DistillationLoss; got str"):
        student([], "binary_crossentropy").fit(x, HARD, verbose=0, callbacks=[AlphaSchedule(1.0)])
