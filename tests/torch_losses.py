"""The losses of softlabels.torch without Keras: beside their float64 references, compiled, strided. Prints JSON.

python tests/torch_losses.py [--compiler inductor]
"""

import argparse
import json
import sys
from types import SimpleNamespace

import numpy as np
import torch
import without_keras  # noqa: F401
from loss_cases import ALPHA, CLASSES, DTYPES, TEMPERATURES, complete_rows, excess, make_case, pack, reference_of
from loss_reference import sigmoid_reference, softmax_reference, weighted_binary_cross_entropy
from torch.nn.functional import binary_cross_entropy_with_logits

import softlabels
from softlabels.loss.pytorch.losses import distillation_loss, embedding_loss, loss_for_labels

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
PARSER.add_argument("--compiler", default="aot_eager")
PARSER.add_argument("--device", default="cpu")
GIVEN = PARSER.parse_args()
KINDS = [(activation, from_logits) for activation in ("sigmoid", "softmax") for from_logits in (True, False)]
HOW = {"activation": "sigmoid", "alpha": 0.3, "temperature": 2.0}


def eager(y, outputs, settings):
    """Rows and the gradient of their sum by the outputs."""
    outputs = outputs.detach().requires_grad_()
    rows = distillation_loss(y, outputs, **settings)
    (gradient,) = torch.autograd.grad(rows.sum(), outputs)
    assert rows.dtype == torch.float32
    return rows, gradient


def errors(
    activation, from_logits, classes=10, dtype="float32", temperature=1.0, alpha=ALPHA, call=eager, trusted=False
):
    """(loss error, gradient error) of one case, in units of what is allowed. trusted: fully, by no number a class."""
    hard, soft, student, trust = make_case(activation, classes, from_logits=from_logits, dtype=dtype)
    outputs = torch.tensor(student.astype(np.float32)).to(GIVEN.device, getattr(torch, dtype))
    settings = {"activation": activation, "alpha": alpha, "temperature": temperature, "from_logits": from_logits}
    trust = np.ones_like(trust) if trusted else trust
    settings["trust"] = None if trusted else torch.tensor(trust, device=GIVEN.device)
    rows, gradient = call(torch.tensor(pack(hard, soft), device=GIVEN.device), outputs, settings)
    how = {"alpha": alpha, "temperature": temperature, "from_logits": from_logits}
    expected = reference_of(activation, hard, soft, student, trust, **how)
    return excess(rows.detach().cpu().numpy(), gradient.float().cpu().numpy(), expected, temperature, dtype)


def worst(cases):
    """Number of cases, and the largest errors."""
    found = list(cases)
    return [len(found), *np.max(found, axis=0).tolist()]


def whole_grid():
    return worst(
        errors(activation, from_logits, classes, dtype, temperature)
        for activation, from_logits in KINDS
        for classes in CLASSES
        for dtype in DTYPES
        for temperature in TEMPERATURES
    )


def compiled(compiler, report):
    """One graph without a break a kind, T = 1 and T = 3 in it; then another alpha."""
    for activation, from_logits in KINDS:
        kept = {"activation": activation, "from_logits": from_logits}

        def both(y, outputs, alpha, trust, kept=kept):
            return [distillation_loss(y, outputs, alpha=alpha, temperature=t, trust=trust, **kept) for t in (1.0, 3.0)]

        step = torch.compile(both, fullgraph=True, backend=compiler)

        def call(y, outputs, settings, step=step):
            outputs = outputs.detach().requires_grad_()
            rows = step(y, outputs, settings["alpha"], settings["trust"])[settings["temperature"] == 3.0]
            return rows, torch.autograd.grad(rows.sum(), outputs)[0]

        for name, alpha in (("compiled", ALPHA), ("compiled, alpha changed", 0.25)):
            for temperature in (1.0, 3.0):
                found = errors(activation, from_logits, temperature=temperature, alpha=alpha, call=call)
                report[name] = np.maximum(report.get(name, (0, 0)), found).tolist()


def strided(y, outputs, settings):
    """Rows that lie apart in memory, targets that ask for a gradient, an alpha that is a tensor."""
    wide = torch.zeros(2 * len(y), y.shape[1] + 3, device=y.device)
    wide[::2, 2:-1] = y
    across = torch.empty(outputs.shape[::-1], dtype=outputs.dtype, device=y.device)
    across.copy_(outputs.T)
    targets = wide[::2, 2:-1].requires_grad_()
    assert not targets.is_contiguous()
    assert not across.T.is_contiguous()
    found = eager(targets, across.T, settings | {"alpha": torch.tensor(settings["alpha"], device=y.device)})
    assert targets.grad is None
    return found


def autocast(y, outputs, settings):
    """Inside autocast, as if there were none."""
    with torch.autocast(GIVEN.device, torch.bfloat16):
        inside = eager(y, outputs, settings)
    assert all(torch.equal(a, b) for a, b in zip(inside, eager(y, outputs, settings), strict=True))
    return inside


def float64(y, outputs, settings):
    """In float64, where PyTorch makes of numbers what somebody's training set: a type too coarse for alpha."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        rows, gradient = eager(y.double(), outputs.double(), settings)
    finally:
        torch.set_default_dtype(torch.float32)
    assert gradient.dtype == torch.float64
    return rows, gradient


def hard_only(y, outputs, settings):
    """(batch, classes) targets are (batch, 2 * classes) ones whose teacher gave nothing."""
    hard, soft = y.chunk(2, dim=1)
    short = eager(hard, outputs, settings)
    long = eager(torch.cat([hard, torch.full_like(soft, torch.nan)], dim=1), outputs, settings)
    for a, b in zip(short, long, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    return eager(y, outputs, settings)


def missing_cases():
    """Rows with everything missing that can be, and a student that has diverged."""
    nan, inf = float("nan"), float("inf")
    y_true = [[1, 0, 0.8, 0.1], [nan, nan, 0.8, 0.1], [1, 0, nan, nan], [nan] * 4, [nan, 0, nan, 0.4]]
    y_true += [[0, 0, 0.03, 0.04], [0.2, 0.4, 0.5, 0.5], [1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0.5, 0.5], [1, 0, 0.5, 0.5]]
    y_pred = [[0.0, 0.0], [2.0, -3.0], [1.0, 0.5], [4.0, 4.0], [-30.0, 30.0], [0.3, 0.2]]
    y_pred += [[0.1, 0.2], [100.0, -100.0], [-88.0, 50.0], [nan, 0.0], [inf, 0.0]]
    found = []
    for activation in ("sigmoid", "softmax"):
        for temperature in (1.0, 2.0):
            how = {"activation": activation, "alpha": 0.25, "temperature": temperature}
            rows = distillation_loss(torch.tensor(y_true), torch.tensor(y_pred), **how)
            found.append({**how, "y_true": y_true, "y_pred": y_pred, "rows": rows.tolist()})
    return found


def student_losses():
    """Error of losses of PyTorch's own, relative to the reference."""
    found = {}
    hard, soft, student = complete_rows("sigmoid")
    weight = np.linspace(0.5, 4, hard.shape[1])
    positive = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight, dtype=torch.float32), reduction="none")
    how = {"alpha": 0.3, "temperature": 1.0, "trust": np.ones(hard.shape[1]), "from_logits": True}
    expected = sigmoid_reference(hard, soft, student, hard_loss=weighted_binary_cross_entropy(weight), **how)
    got = distillation_loss(
        torch.tensor(pack(hard, soft)), torch.tensor(student), activation="sigmoid", student_loss=positive, **how
    )
    found["positives weigh"] = float(np.abs(got.numpy() / expected.loss - 1).max())
    hard, soft, student = complete_rows("softmax")
    smoothed = torch.nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")
    expected = softmax_reference(hard, soft, student, smoothing=0.1, **how)
    got = distillation_loss(
        torch.tensor(pack(hard, soft)), torch.tensor(student), activation="softmax", student_loss=smoothed, **how
    )
    found["smoothed"] = float(np.abs(got.numpy() / expected.loss - 1).max())
    return found


def refused():
    """What a message has to hold -> what it says."""
    y, outputs = torch.rand(4, 6), torch.rand(4, 3)
    tried = {
        "expected y_true as wide as y_pred": lambda: distillation_loss(y[:, :5], outputs, **HOW),
        "expected one target row per output row": lambda: distillation_loss(y[:3], outputs, **HOW),
        "distillation_loss: expected rank 2": lambda: distillation_loss(y[0], outputs[0], **HOW),
        "expected real numbers": lambda: distillation_loss(y, outputs.to(torch.complex64), **HOW),
        "activation 'sigmoid' or 'softmax'; got 'tanh'": lambda: distillation_loss(
            y, outputs, **HOW | {"activation": "tanh"}
        ),
        "expected alpha in [0, 1]; got 1.5": lambda: distillation_loss(y, outputs, **HOW | {"alpha": 1.5}),
        "finite temperature > 0; got 0": lambda: distillation_loss(y, outputs, **HOW | {"temperature": 0}),
        "trust for the student's 3 classes; got shape (2,)": lambda: distillation_loss(
            y, outputs, trust=torch.ones(2), **HOW
        ),
        "one number in [0, 1] per class": lambda: distillation_loss(y, outputs, trust=[0.5, 2, 1], **HOW),
        "the soft half in [0, 1], or NaN": lambda: distillation_loss(
            y + torch.tensor([0, 0, 0, 0, 1.5, 0]), outputs, **HOW
        ),
        "make it with reduction='none'": lambda: distillation_loss(
            y, outputs, student_loss=binary_cross_entropy_with_logits, **HOW
        ),
        "DistillationLoss needs keras": lambda: softlabels.DistillationLoss,
    }
    return {wanted: said(call) for wanted, call in tried.items()}


def said(call):
    """The message of the error."""
    try:
        call()
    except (ValueError, ImportError) as e:
        return str(e)
    return "nothing"


def for_labels():
    """Settings, and that a call may change them."""
    labels = SimpleNamespace(activation="softmax", classes=["a", "b", "c"], class_trust=np.array([0.5, 1, 0.25]))
    loss, y, outputs = loss_for_labels(labels), torch.rand(4, 6) / 3, torch.rand(4, 3)
    settings = [loss.keywords[name] for name in ("activation", "alpha", "temperature")]
    other = loss_for_labels(labels, 0.0, 2.0).keywords
    how = {"activation": "softmax", "temperature": 1.0, "trust": labels.class_trust}
    return {
        "settings": [*settings, loss.keywords["trust"].tolist()],
        "given": [other["alpha"], other["temperature"]],
        "same rows": torch.equal(loss(y, outputs), distillation_loss(y, outputs, alpha=0.3, **how)),
        "alpha changed": torch.equal(loss(y, outputs, alpha=0.9), distillation_loss(y, outputs, alpha=0.9, **how)),
    }


def embedding():
    """Largest errors of rows and gradient, by float64 and its own differentiation."""
    rng = np.random.default_rng(3)
    theirs = np.maximum(rng.normal(0.3, 1, (12, 9)), 0).astype(np.float16)
    ours = rng.normal(0, 1, (12, 9)).astype(np.float32)
    theirs[0], theirs[1], theirs[2, 1], ours[3] = np.nan, 0, np.inf, 0
    ours[4] = theirs[4].astype(np.float32) * 1e-30
    student = torch.tensor(ours).requires_grad_()
    rows = embedding_loss(torch.tensor(theirs), student, weight=0.5)
    rows.sum().backward()
    wide = torch.tensor(ours, dtype=torch.float64).requires_grad_()
    expected = 0.5 * (1 - torch.nn.functional.cosine_similarity(torch.tensor(theirs).double(), wide, eps=1e-60))
    expected[4:].sum().backward()
    size = wide.grad[5:].abs().amax(dim=1, keepdim=True) + 1
    return {
        "rows": float((rows[4:] - expected[4:]).detach().abs().max()),
        "gradient": float(((student.grad[5:] - wide.grad[5:]) / size).abs().max()),
        "finite": bool(torch.isfinite(student.grad).all()),
        "left out": float(rows[:4].detach().abs().sum() + student.grad[:4].abs().sum()),
        "weight": torch.equal(2 * rows, embedding_loss(torch.tensor(theirs), torch.tensor(ours))),
        "refused": sum(
            "embedding_loss: expected" in said(call)
            for call in (
                lambda: embedding_loss(torch.rand(2, 3), torch.rand(2, 4)),
                lambda: embedding_loss(torch.rand(2, 3), torch.rand(2, 3), weight=-1.0),
            )
        ),
    }


def mixup_error():
    """Largest difference to the mixture of arrays, NaN where it has NaN."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(6, 3, 2)).astype(np.float32), rng.random((6, 4)).astype(np.float32)
    y[rng.random(y.shape) < 0.3] = np.nan
    weight, worst_error = rng.random(6).astype(np.float32), 0.0
    weight[:2] = 0, 1
    for rule in ("linear", "max"):
        for partner in (None, rng.permutation(6)):
            arrays = softlabels.mixup(x, y, weight, rule=rule, partner=partner)
            tensors = softlabels.mixup(torch.tensor(x), torch.tensor(y), weight, rule=rule, partner=partner)
            for array, tensor in zip(arrays, tensors, strict=True):
                np.testing.assert_array_equal(np.isnan(array), np.isnan(tensor.numpy()))
                worst_error = max(worst_error, float(np.nanmax(np.abs(array - tensor.numpy()))))
    targets = {"labels": torch.tensor(y), "embedding": torch.tensor(x[:, 0]).half()}
    arrays = {name: tensor.numpy() for name, tensor in targets.items()}
    mixed = [softlabels.mixup(torch.tensor(x), targets, weight)[1], softlabels.mixup(x, arrays, weight)[1]]
    for name in targets:
        np.testing.assert_array_equal(mixed[0][name].numpy(), mixed[1][name])
    return worst_error


def main():
    """Try everything and print it."""
    report = {"eager": whole_grid()}
    for call in (strided, autocast, float64, hard_only):
        how = [{"temperature": t, "call": call, "trusted": trusted} for t in (1.0, 3.0) for trusted in (True, False)]
        found = [errors(*kind, **each) for kind in KINDS for each in how]
        report[call.__name__.replace("_", " ")] = np.max(found, axis=0).tolist()
    compiled(GIVEN.compiler, report)
    report |= {"missing": missing_cases(), "student losses": student_losses(), "refused": refused()}
    report |= {"for labels": for_labels(), "embedding": embedding(), "mixup": mixup_error()}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
