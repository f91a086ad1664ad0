"""export(): a store in other people's formats.

format         what comes out, and who reads it
birdnet-stm32  the teacher-cache folder of birdnet-stm32's training
detections     birdnet's long table, CSV or Parquet: one row a window and class above a threshold
hf             a copy of the store with a dataset card: Hugging Face's `datasets`, the Hub's viewer, softlabels

Each is read shard by shard and is there complete or not at all.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from pipeline.exports.birdnet_stm32 import write_teacher_cache
from pipeline.exports.dataset_folder import write_dataset_folder
from pipeline.exports.detections import write_detections
from pipeline.exports.written import Exported, new_output, require_labels
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import match_classes
from softlabels.store.reader import StoreReader

Format = Literal["birdnet-stm32", "detections", "hf"]
THRESHOLD = 0.1  # of a detection, as in birdnet


def export(
    store: StoreReader,
    to: Format,
    output: str | Path,
    *,
    classes: str | Path | None = None,
    mapping: str | Path | None = None,
    threshold: float | None = None,
    on_windows: Callable[[int], None] = lambda windows: None,
) -> Exported:
    """Write a store in another format.

    Args:
      to: the format; see the module.
      output: a new folder, or for `detections` a new file ending in .csv or .parquet.
      classes: a text file with the classes to write, in their order; None is the store's. Not for `hf`.
      mapping: a class mapping file, for names that are not found.
      threshold: `detections` only: the least probability of a row, in [0, 1]; None is 0.1.
      on_windows: called with the number of windows just written.
    Raises: ValueError: an argument that does not fit the format, or an output that is there already. StoreError:
      nothing to write, or damaged. ClassListError, JoinError: the classes do not fit the store's.
    """
    _check(to, Path(output), classes=classes or mapping, threshold=threshold)
    require_labels(store)
    names = ClassList.from_file(classes) if classes else store.classes
    match = match_classes(names, store.classes, mapping=mapping)
    with new_output(Path(output)) as unfinished:
        if to == "birdnet-stm32":
            return write_teacher_cache(store, unfinished, names, match, on_windows)
        if to == "detections":
            least = THRESHOLD if threshold is None else threshold
            return write_detections(store, unfinished, names, match, least, on_windows)
        return write_dataset_folder(store, unfinished, on_windows)


def _check(to: str, output: Path, *, classes: object, threshold: float | None) -> None:
    if to not in get_args(Format):
        raise ValueError(f"--to: expected one of {', '.join(get_args(Format))}, got {to!r}")
    if to == "detections" and output.suffix not in (".csv", ".parquet"):
        raise ValueError(f"-o: expected a file ending in .csv or .parquet for detections, got '{output}'")
    if to != "detections" and threshold is not None:
        raise ValueError(f"--threshold goes with --to detections; {to} keeps every probability")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold: expected a probability from 0 to 1, got {threshold}")
    if to == "hf" and classes:
        raise ValueError("--classes and --mapping: --to hf copies the store with all its classes; leave them out")
