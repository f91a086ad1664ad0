"""Does a student of PyTorch learn as well from a store as one of Keras? Paired over seeds, in processes of their own.

    python tests/benchmarks/bench_torch.py --work DIR [--seeds 8] [--clips 660] [--share 0.1] [--jobs 2]

BirdNET labels synthesised songs; a share of the clips is annotated. Both students have the same network of 4,500
weights, first weights, pictures, labels (`recommended()`), order of rows, steps, Adam and schedule. `make_dataset` and
`DistillationLoss` teach the one, `softlabels.torch` the other, in a process where Keras and TensorFlow cannot be found.
Prints the share of test clips that each gets right, and the mean difference with a 95 % interval of Student's t over
the seeds. The last line is one JSON object. Needs the extras `birdnet` and `torch`.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from comparison import Outcome, difference
from log_mel import LogMel
from song_corpus import TEST, TRAIN, LabelledCorpus, SongCorpus
from without import KERAS, hide

STEPS, BATCH, RATE = 400, 32, 1e-2


def main() -> None:
    arguments = parse()
    logging.getLogger("softlabels").setLevel(logging.ERROR)
    if arguments.student:
        {"keras": teach_keras, "torch": teach_torch}[arguments.student](arguments)
        return
    open_corpora(arguments)
    seconds = {}
    for student in ("keras", "torch"):
        start = time.perf_counter()
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--student", student], check=True)
        seconds[student] = round(time.perf_counter() - start)
    hard = open_corpora(arguments)[1].join().hard()  # (clips, species)
    sung = hard.max(axis=1) == 1
    outcomes = {}
    for student in seconds:
        said = [np.load(arguments.work / f"{student}-{seed}.npy") for seed in range(arguments.seeds)]
        right = np.stack([one[sung].argmax(axis=1) for one in said]) == hard[sung].argmax(axis=1)
        outcomes[student] = Outcome(arm=student, share=arguments.share, right=right)
    found = difference(outcomes["torch"], outcomes["keras"])
    interval = [round(100 * each, 2) for each in found.by_seed]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; {arguments.seeds} seeds; {sung.sum()} test clips; "
        f"seconds {seconds}\n"
        f"% right: Keras {100 * outcomes['keras'].accuracy:.2f}, PyTorch {100 * outcomes['torch'].accuracy:.2f}; "
        f"difference {100 * found.mean:+.2f}, 95 % interval {interval[0]:+.2f} to {interval[1]:+.2f} points"
    )
    right = {name: np.round(100 * one.right.mean(axis=1), 2).tolist() for name, one in outcomes.items()}
    print(json.dumps({"right": right, "difference": round(100 * found.mean, 3), "interval": interval, **seconds}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, metavar="DIR", help="where stores and answers are kept")
    add("--seeds", type=int, default=8)
    add("--clips", type=int, default=660, help="to train on, and to be examined on")
    add("--share", type=float, default=0.1, help="annotated")
    add("--jobs", type=int, default=2, help="workers and threads")
    add("--student", choices=["keras", "torch"], help=argparse.SUPPRESS)
    return parser.parse_args()


def open_corpora(arguments: argparse.Namespace) -> tuple[LabelledCorpus, LabelledCorpus]:
    """To train on, and to be examined on; made unless they are there."""
    train = SongCorpus(name="train", clips=arguments.clips, seed=41, settings=TRAIN)
    test = SongCorpus(name="test", clips=arguments.clips, seed=42, settings=TEST)
    return train.make(arguments.work), test.make(arguments.work)


def order(rows: int, seed: int) -> np.ndarray:
    """(STEPS, BATCH) row numbers: every row once before any comes again."""
    rng = np.random.default_rng(seed)
    rounds = -(-STEPS * BATCH // rows)
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[: STEPS * BATCH].reshape(STEPS, BATCH)


def teach_keras(arguments: argparse.Namespace) -> None:
    """Students of Keras; their first weights are kept for those of PyTorch."""
    from students import Lesson, build_student, keras, train

    import softlabels

    corpora, mel = open_corpora(arguments), LogMel()
    x, test_x = (
        np.concatenate([x.numpy() for x, _ in softlabels.make_dataset(one.join(), 128, mel, mel.rate_hz)])
        for one in corpora
    )
    for seed in range(arguments.seeds):
        if (answers := arguments.work / f"keras-{seed}.npy").exists():
            continue
        labels = corpora[0].join(arguments.share, seed).recommended()
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)  # as `train` does
        first = build_student(x.shape[1:], len(labels.classes), float(x.mean()), float(x.std()))
        names = [f"{number:02}" for number in range(len(first.trainable_variables))]
        weights = dict(zip(names, (each.numpy() for each in first.trainable_variables), strict=True))
        np.savez(arguments.work / f"first-{seed}.npz", **weights)
        loss = softlabels.DistillationLoss.for_labels(labels, from_logits=True)
        config = keras.saving.serialize_keras_object(loss)
        told = Lesson(y=labels.y_true(), rows=np.arange(len(x)), loss=config, seed=seed, steps=STEPS, rate=RATE)
        student = train(x, told)
        np.save(answers, student.predict(test_x, batch_size=256, verbose=0))


def teach_torch(arguments: argparse.Namespace) -> None:
    """Students of PyTorch, where there is no Keras."""
    hide(*KERAS)
    import torch

    import softlabels.torch

    torch.set_num_threads(arguments.jobs)
    corpora, mel = open_corpora(arguments), LogMel()
    x, test_x = (
        torch.cat([x for x, _ in softlabels.torch.make_dataloader(one.join(), 128, mel, mel.rate_hz, workers=2)])
        for one in corpora
    )
    for seed in range(arguments.seeds):
        if (answers := arguments.work / f"torch-{seed}.npy").exists():
            continue
        labels = corpora[0].join(arguments.share, seed).recommended()
        with np.load(arguments.work / f"first-{seed}.npz") as kept:
            student = torch_student([kept[name] for name in sorted(kept)], float(x.mean()), float(x.std(correction=0)))
        loss, y = softlabels.torch.loss_for_labels(labels), torch.from_numpy(labels.y_true())
        optimiser = torch.optim.Adam(student.parameters(), RATE, eps=1e-7)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for rows in torch.from_numpy(order(len(x), seed)):
            optimiser.zero_grad()
            loss(y[rows], student(x[rows])).mean().backward()
            optimiser.step()
            rate.step()
        with torch.no_grad():
            np.save(answers, student.eval()(test_x).numpy())
    assert not set(KERAS) & set(sys.modules)


def torch_student(weights: list[np.ndarray], mean: float, deviation: float):  # -> torch.nn.Module
    """The network of `students.build_student` with these weights: (batch, frames, bands, 1) -> (batch, outputs)."""
    import torch
    from torch import nn

    class Same(nn.Module):
        """A convolution that pads as Keras does: with a stride of two more at the end than at the beginning."""

        def __init__(self, kernel: np.ndarray, stride: int, groups: int = 1) -> None:
            super().__init__()
            self.kernel, self.stride, self.groups = nn.Parameter(torch.tensor(kernel)), stride, groups

        def forward(self, x):
            pads = []
            for size in (x.shape[3], x.shape[2]):  # the last axis comes first
                total = max((-(-size // self.stride) - 1) * self.stride + self.kernel.shape[-1] - size, 0)
                pads += [total // 2, total - total // 2]
            return nn.functional.conv2d(nn.functional.pad(x, pads), self.kernel, stride=self.stride, groups=self.groups)

    class Normalise(nn.Module):
        def forward(self, x):
            return (x.permute(0, 3, 1, 2) - mean) / deviation

    class Top(nn.Module):
        def forward(self, x):
            return x.amax(dim=(2, 3))

    left, layers, number = list(weights), [Normalise()], 0
    while len(left) > 2:
        kernel = left.pop(0)  # (3, 3, in, out); of the separable ones (3, 3, in, 1)
        if number == 0:
            layers.append(Same(kernel.transpose(3, 2, 0, 1), 2))
        else:
            stride = 2 if number <= 2 else 1
            layers += [Same(kernel.transpose(2, 3, 0, 1), stride, groups=kernel.shape[2])]
            layers += [Same(left.pop(0).transpose(3, 2, 0, 1), 1)]
        gamma, beta = left.pop(0), left.pop(0)
        norm = nn.BatchNorm2d(len(gamma), eps=1e-3, momentum=0.1)
        assert (gamma == 1).all()
        assert (beta == 0).all()
        layers += [norm, nn.ReLU()]
        number += 1
    last = nn.Linear(*left[0].shape)
    with torch.no_grad():
        last.weight.copy_(torch.tensor(left[0].T))
        last.bias.copy_(torch.tensor(left[1]))
    return nn.Sequential(*layers, Top(), last)


if __name__ == "__main__":
    main()
