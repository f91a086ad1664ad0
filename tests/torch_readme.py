"""Runs the READMEs' blocks for PyTorch, without Keras, on labels that were saved. Prints one JSON object.

python tests/torch_readme.py LABELS
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
import without_keras  # noqa: F401

import softlabels

ROOM = Path(softlabels.__file__).parent


def features(audio):
    """(batch, samples) -> (batch, frames, 8)"""
    return audio[:, : audio.shape[1] // 80 * 80].reshape(len(audio), -1, 8, 10).std(axis=-1)


def main():
    """Block after block, as one script."""
    torch.manual_seed(0)
    names = {"train": softlabels.load_labels(sys.argv[1]), "features": features, "np": np, "softlabels": softlabels}
    blocks = 0
    for page in ("batches/README.md", "loss/README.md"):
        for code in re.findall(r"```python torch\n(.*?)```", (ROOM / page).read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(code, page, "exec"), names)
            blocks += 1
    report = {"blocks": blocks, "position": names["state"]["position"], "mine": len(list(names["mine"]))}
    sys.stdout.write(json.dumps({**report, "rows": len(names["y_true"])}) + "\n")


if __name__ == "__main__":
    main()
