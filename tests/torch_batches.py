"""The loader of softlabels.torch without Keras: workers, epochs, states, errors, a training. Prints one JSON object.

python tests/torch_batches.py LABELS
"""

import hashlib
import itertools
import json
import os
import sys

import numpy as np
import torch
import without_keras  # noqa: F401

import softlabels
from softlabels.batches.frameworks.torch_loader import BatchDataset
from softlabels.torch import loss_for_labels, make_dataloader

OPTIONS = {"batch_size": 4, "shuffle": True, "seed": 5, "rate_hz": 4000}


def tensors(batch):
    """Those of a batch, in order: x, y_true, and the embedding where there is one."""
    x, targets = batch
    return [x, *(targets.values() if isinstance(targets, dict) else [targets])]


def digest(batches):
    """sha256 over the bytes of all batches, in order."""
    total = hashlib.sha256()
    for batch in batches:
        for tensor in tensors(batch):
            assert isinstance(tensor, torch.Tensor)
            total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def passes(loader, epochs):
    """The batches of some epochs."""
    return itertools.chain.from_iterable(loader for _ in range(epochs))


def digests(labels):
    """Of two epochs, by number of workers; of spawned ones; of a loader of the user's own."""
    found = {}
    for workers in (0, 1, 2, 4):
        loader = make_dataloader(labels, **OPTIONS, workers=workers, start_method="fork" if workers else None)
        found[str(workers)] = digest(passes(loader, 2))
    found["spawn"] = digest(passes(make_dataloader(labels, **OPTIONS, workers=1, start_method="spawn"), 2))
    for audio in ("stream", "cache-float32"):
        found[audio] = digest(passes(make_dataloader(labels, **OPTIONS, workers=2, audio=audio), 2))
    data = make_dataloader(labels, **OPTIONS).dataset
    own = torch.utils.data.DataLoader(data, batch_size=None, sampler=range(2 * len(data)), num_workers=2)
    found["own loader"] = digest(own)
    return found


def resumed(labels):
    """Positions after so many batches of two workers, and whether what comes then is what would have come."""
    whole = list(passes(make_dataloader(labels, **OPTIONS), 3))
    positions, same = [], []
    first = make_dataloader(labels, **OPTIONS, workers=2)
    for stop, _ in enumerate(itertools.islice(passes(first, 3), 8), 1):
        positions.append(first.get_state()["position"])
        second = make_dataloader(labels, **OPTIONS)
        second.set_state(json.loads(json.dumps(first.get_state())))
        rest = list(passes(second, 3))[: 12 - stop]
        same.append(digest(rest) == digest(whole[stop:]))
    untouched = make_dataloader(labels, **OPTIONS)
    return [untouched.get_state()["position"], *positions], [digest(passes(untouched, 3)) == digest(whole), *same]


def abandoned(labels):
    """Whether the pass after one that was left is the next epoch, or where a state says; two workers."""
    whole = list(passes(make_dataloader(labels, **OPTIONS), 4))
    loader = make_dataloader(labels, **OPTIONS, workers=2)
    next(iter(loader))
    same = [digest(loader) == digest(whole[4:8])]
    next(iter(loader))
    loader.set_state({**loader.get_state(), "position": 3})
    return [*same, digest(loader) == digest(whole[3:7]), len(list(loader)) == 4]


def message(call):
    """Type and words of the error."""
    try:
        call()
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    return "nothing"


def shared():
    """Whether tensors are where the arrays are, and what is made of arrays that no tensor can be."""
    arrays = {"x": np.ones((2, 3), np.float32), "y": np.zeros((2, 4), np.float32)}

    class Stub:
        def load(self, number):
            return arrays["x"], arrays["y"]

    x, y = BatchDataset(Stub())[0]
    same = [tensor.data_ptr() == array.ctypes.data for tensor, array in ((x, arrays["x"]), (y, arrays["y"]))]
    arrays["x"], arrays["y"] = np.array([1.0, 2.0])[::-1], np.array([1.0, 2.0])
    arrays["y"].flags.writeable = False
    return same, [tensor.tolist() for tensor in BatchDataset(Stub())[0]]


def training(labels):
    """Mean loss of the first and the last epoch of a student, under autocast and a compiled loss."""
    torch.manual_seed(0)
    student = torch.nn.Linear(400, 3)
    loss = torch.compile(loss_for_labels(labels, student_loss=None), fullgraph=True, backend="aot_eager", dynamic=True)
    optimiser = torch.optim.Adam(student.parameters(), 0.01)
    loader, means = make_dataloader(labels, batch_size=4, rate_hz=4000, shuffle=True, workers=1), []  # 4, 4, 4, 2
    for _ in range(8):
        losses = []
        for x, y_true in loader:
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(y_true, student(x)).mean()
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            losses.append(value.item())
        means.append(float(np.mean(losses)))
    return [means[0], means[-1]]


def main():
    """Try everything, leave a loader with workers alive, and print."""
    labels = softlabels.load_labels(sys.argv[1])
    report = {"digests": digests(labels)}
    embedded = list(passes(make_dataloader(labels, **OPTIONS, embedding=True, workers=1), 2))
    targets = embedded[0][1]
    report["embedding"] = [digest(embedded), str(targets["embedding"].dtype), sorted(targets)]
    report["shared"], report["odd arrays"] = shared()
    report["abandoned"] = abandoned(labels)
    report["positions"], report["resumed"] = resumed(labels)
    loader = make_dataloader(labels, **OPTIONS)
    report["other state"] = message(lambda: loader.set_state({**loader.get_state(), "seed": 6}))
    torch.manual_seed(1)
    list(make_dataloader(labels, **OPTIONS))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    report["first epoch"] = len(list(make_dataloader(labels, **OPTIONS).dataset))
    report["seed untouched"] = torch.equal(drawn, torch.rand(1))
    report["losses"] = training(labels)
    live = make_dataloader(labels, **OPTIONS, workers=2)
    iterator = iter(live)
    next(iterator)
    report["live"] = len(live)
    os.remove(os.path.join(str(labels.root), "c3.wav"))
    report["error"] = message(lambda: list(make_dataloader(labels, **OPTIONS, workers=2)))
    report["loaded"] = json.dumps(sorted({"keras", "tensorflow"} & set(sys.modules)))
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    globals()["kept"] = iterator  # still alive when Python ends


if __name__ == "__main__":
    main()
