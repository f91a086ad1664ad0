"""Training scripts of many kinds, each in a process of its own: do they end once they have printed their last line?

    PYTHONPATH=tests python tests/benchmarks/endings.py [--times 30] [--patience 5] [--only KIND]

The kinds: `fit` with repeat, with early stopping, with an exception and with Ctrl-C in the middle; an iterator that is
still alive, also behind a prefetch, a shuffle and `attach`; a dataset that is made again and again, as in a notebook;
each with and without features. Bad are: a process that has not ended `--patience` seconds after its last line, an
abort or another signal, and another exit code than the script's own. Prints a line a kind; the last line of stdout is
one JSON object; exits 1 if anything was bad.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

CLIPS, RATE_HZ = 40, 8000
PREPARE = """
import sys
import numpy as np
import softlabels

labels = softlabels.open("soft_labels").join("data_manifest.csv")

def features(audio):
    frames = np.lib.stride_tricks.sliding_window_view(audio, 128, axis=1)[:, ::16]
    return np.log(np.abs(np.fft.rfft(frames)) + 1e-3).astype("float32")

dataset = softlabels.make_dataset(labels, 8, features if sys.argv[1] == "features" else None, shuffle=True)
"""
FIT = """
import keras

student = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(len(labels.classes), activation="sigmoid")])
student.compile("adam", loss=softlabels.DistillationLoss.for_labels(labels))

class Stop(keras.callbacks.Callback):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def on_train_batch_end(self, batch, logs=None):
        if batch == 7:
            print("last", flush=True)
            self.act()

def fail():
    raise RuntimeError("the user's")

def wait():
    import time
    time.sleep(60)  # for Ctrl-C
"""
KINDS = {  # script, exit code
    "fit": (FIT + "student.fit(dataset, epochs=3, verbose=0)", 0),
    "fit with repeat": (FIT + "student.fit(dataset.repeat(), steps_per_epoch=20, epochs=2, verbose=0)", 0),
    "fit with validation": (
        FIT + "student.fit(dataset.repeat(), steps_per_epoch=9, epochs=3, validation_data=dataset, "
        "validation_steps=2, verbose=0)",
        0,
    ),
    "early stopping": (
        FIT + "early = keras.callbacks.EarlyStopping('loss', mode='max', patience=0)\n"
        "student.fit(dataset.repeat(), steps_per_epoch=20, epochs=9, verbose=0, callbacks=[early])",
        0,
    ),
    "exception": (FIT + "student.fit(dataset.repeat(), steps_per_epoch=20, verbose=0, callbacks=[Stop(fail)])", 1),
    "Ctrl-C": (
        FIT + "student.fit(dataset.repeat(), steps_per_epoch=20, verbose=0, callbacks=[Stop(wait)])",
        -signal.SIGINT,
    ),
    "sys.exit": (FIT + "student.fit(dataset.repeat(), steps_per_epoch=20, verbose=0, callbacks=[Stop(sys.exit)])", 0),
    "live iterator": ("batches = iter(dataset.repeat())\nfor _ in range(12): next(batches)", 0),
    "half a pass": ("for number, batch in enumerate(dataset):\n    if number == 3: break", 0),
    "live NumPy iterator": ("batches = dataset.repeat().as_numpy_iterator()\nfor _ in range(12): next(batches)", 0),
    "behind a prefetch": (
        "import tensorflow as tf\nbatches = iter(dataset.repeat().prefetch(tf.data.AUTOTUNE))\n"
        "for _ in range(12): next(batches)",
        0,
    ),
    "behind a shuffle": (
        "import tensorflow as tf\nbatches = iter(dataset.unbatch().shuffle(64).batch(8).repeat().prefetch(4))\n"
        "for _ in range(12): next(batches)",
        0,
    ),
    "attached": (
        "import tensorflow as tf\nrows = tf.data.Dataset.range(len(labels)).map(lambda row: {'row': row, 'x': row})\n"
        "rows = rows.repeat().batch(8).map(softlabels.attach(labels), num_parallel_calls=4).prefetch(4)\n"
        "batches = iter(rows)\nfor _ in range(12): next(batches)",
        0,
    ),
    "recordings left open": (
        "dataset = softlabels.make_dataset(labels, 8, rate_hz=4000, shuffle='recordings', workers=4)\n"
        "batches = iter(dataset.repeat())\nfor _ in range(12): next(batches)",
        0,
    ),
    "iterator in a cycle": (
        "class Trainer: pass\ntrainer = Trainer()\ntrainer.me, trainer.batches = trainer, iter(dataset.repeat())\n"
        "for _ in range(12): next(trainer.batches)\ndel trainer",
        0,
    ),
    "made again": (
        "for _ in range(4):\n"
        "    dataset = softlabels.make_dataset(labels, 8, shuffle=True)\n"
        "    batches = iter(dataset.repeat())\n"
        "    for _ in range(4): next(batches)",
        0,
    ),
}


def make_store(folder: Path) -> None:
    """A small store of the stand-in teacher, and its manifest."""
    import pipeline

    rows = ["clip_id,path,label"]
    for n in range(CLIPS):
        samples = np.random.default_rng(n).uniform(-0.4, 0.4, 2 * RATE_HZ).astype(np.float32)
        soundfile.write(folder / f"c{n}.wav", samples, RATE_HZ)
        rows.append(f"c{n},c{n}.wav,{('Aus aus_Alpha', 'Bus bus_Beta')[n % 2]}")
    (folder / "data_manifest.csv").write_text("\n".join(rows) + "\n")
    pipeline.run(folder / "data_manifest.csv", folder / "soft_labels", teacher="standin:teacher")


def ending(folder: Path, kind: str, sound: str, *, patience: float) -> str:
    """What is wrong with the end of one script; "" is nothing."""
    script, code = KINDS[kind]
    last = "" if "[Stop(" in script else "\nprint('last', flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE + script + last, sound],
        cwd=folder,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "last\n":
        return "did not get to its last line: " + process.communicate()[1][-500:]
    if kind == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    began = time.monotonic()
    try:
        _, told = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"still there after {patience:g} s"
    if process.returncode == code:
        return ""
    return f"exit code {process.returncode} instead of {code} after {time.monotonic() - began:.1f} s: {told[-300:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=30, help="of each kind; every second one with features")
    parser.add_argument("--patience", type=float, default=5, help="seconds from a script's last line to its end")
    parser.add_argument("--only", default="", help="only kinds with this text")
    args = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_store(folder)
        for kind in KINDS:
            if args.only not in kind:
                continue
            ends = [
                ending(folder, kind, ("plain", "features")[n % 2], patience=args.patience) for n in range(args.times)
            ]
            wrong = [end for end in ends if end]
            figures[kind] = {"scripts": len(ends), "bad": len(wrong)}
            print(
                f"{kind:<22}{len(ends):>4} scripts, {len(wrong)} bad", dict(Counter(wrong).most_common(3)), flush=True
            )
    print(json.dumps(figures))
    return 1 if any(one["bad"] for one in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
