"""A training's way from a store to batches, without the packages that are named; prints one JSON object.

python tests/light_training.py STORE MANIFEST PACKAGE ...
"""

import json
import sys

from without import hide


def main():
    """Open, join, calibrate, adapt, save, load, read batches; then every public name."""
    hide(*sys.argv[3:])
    import numpy as np

    import softlabels
    from softlabels.batches.options import BatchOptions
    from softlabels.batches.stream import Batches

    labels = softlabels.open(sys.argv[1]).join(sys.argv[2], canary=False)
    used = [labels.calibrate().calibration.used, labels.recommended().calibration.used]
    loaded = softlabels.load_labels(labels.trust().save("saved"))
    x, y_true = Batches(loaded, BatchOptions(batch_size=4, rate_hz=4000)).load(0)
    mixed, _ = softlabels.mixup(x, softlabels.check_targets(y_true), np.float32(0.5))
    absent = {}
    for name in softlabels.__all__:
        try:
            getattr(softlabels, name)
        except ImportError as e:
            absent[name] = str(e)
    try:
        torch = softlabels.torch.__name__
    except ImportError as e:
        torch = str(e)
    report = {
        "used": used,
        "shapes": [mixed.shape, y_true.shape],
        "absent": absent,
        "torch": torch,
        "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
