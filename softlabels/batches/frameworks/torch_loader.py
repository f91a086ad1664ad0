"""Joined labels for PyTorch: a map-style dataset of batches, and the loader that goes through them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from softlabels.batches.options import Audio, BatchOptions, Crops, Features, Shuffle
from softlabels.batches.rows import LabelRows
from softlabels.batches.stream import Batches

Example = tuple[torch.Tensor, torch.Tensor | dict[str, torch.Tensor]]


class BatchDataset(Dataset):
    """Map-style: item n is batch n of the stream of `make_dataloader`, whose epochs follow each other without end.

    It pickles as settings and a path, so that forked and spawned workers may make any batch.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Example]:
        """The first epoch; by `__getitem__` alone Python would go on for ever."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Example:
        if number < 0:
            raise IndexError(f"batch {number}: expected 0 or more")
        x, targets = self.batches.load(int(number))
        if isinstance(targets, dict):
            return _tensor(x), {name: _tensor(values) for name, values in targets.items()}
        return _tensor(x), _tensor(targets)


def _tensor(values: np.ndarray) -> torch.Tensor:
    """The same memory as a tensor; a copy only of what PyTorch cannot hold: a view that runs backwards or is locked."""
    locked = not values.flags.writeable or any(step < 0 for step in values.strides)
    return torch.from_numpy(values.copy() if locked else values)


class _Passes(Sampler):
    """The numbers of the batches of one pass, the next epoch; where it begins, and what of the stream was taken."""

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self.first = self.next = self.taken = 0

    def begin(self) -> int:
        """Move on to the next pass; the number of its first batch."""
        self.first, self.next = self.next, self.next + self._batches
        return self.first

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[int]:  # a loader may ask twice for one pass
        return iter(range(self.first, self.first + self._batches))


class BatchLoader(DataLoader):
    """A `DataLoader` of which every pass is the next epoch, and that can be resumed; see `make_dataloader`."""

    def __iter__(self) -> Iterator[Example]:
        first = self.sampler.begin()
        for taken, example in enumerate(super().__iter__(), first + 1):
            self.sampler.taken = taken  # counted here, so what workers have made ahead does not count
            yield example

    def get_state(self) -> dict[str, Any]:
        """How far the stream was taken, as a small JSON object."""
        return self.dataset.batches.state(self.sampler.taken)

    def set_state(self, state: dict[str, Any]) -> None:
        """Let the next pass begin where a state says. Raises: ValueError: it is one of other batches."""
        self.sampler.next = self.sampler.taken = self.dataset.batches.position_of(state)


def make_dataloader(
    labels: LabelRows,
    batch_size: int = 64,
    features: Features | None = None,
    rate_hz: int | None = None,
    shuffle: Shuffle = False,
    seed: int = 0,
    *,
    sampling_weights: np.ndarray | None = None,
    embedding: bool = False,
    window_s: float | None = None,
    crops: Crops | None = None,
    upsample: float = 0.0,
    audio: Audio | None = None,
    keep_features: str | None = None,
    workers: int = 0,
    pin_memory: bool | None = None,
    start_method: str | None = None,
) -> BatchLoader:
    """Batches of `(x, y_true)` as tensors: the stream of `softlabels.make_dataset`, byte for byte.

        for x, y_true in make_dataloader(labels, batch_size=64, shuffle=True, workers=2):
            loss(y_true, student(x)).mean().backward()

    Args:
      labels to keep_features: as in `softlabels.make_dataset`.
      workers: processes that make batches ahead of the model; 0 makes each when it is asked for. The stream is the
        same. They live as long as the loader. Each decodes what it passes over of audio that is streamed, so with more
        than one take `audio="cache"`.
      pin_memory: whether tensors come in memory from which a GPU copies fast; None: if there is a CUDA one.
      start_method: of the workers, "fork", "forkserver" or "spawn"; None is Python's. Spawned ones need `features` that
        can be pickled; audio in a bucket needs spawned ones.
    Returns: a `torch.utils.data.DataLoader` of known length, of which every pass is the next epoch. x is as `features`
      gives it, y_true (batch, 2 * classes) float32. Its `get_state()` and `set_state()` resume it. Its `dataset` is
      map-style, item n is batch n of the stream, for a `DataLoader` of your own with `batch_size=None`.
    Raises: ValueError: as `softlabels.make_dataset`. JoinError: embeddings of labels that have none.
    """
    if workers < 0:
        raise ValueError(f"workers: expected 0 or more, got {workers}")
    options = BatchOptions.among(locals())
    batches = Batches(labels, options)
    return BatchLoader(
        BatchDataset(batches),
        batch_size=None,  # items are batches
        sampler=_Passes(len(batches)),
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        multiprocessing_context=start_method if workers else None,
        generator=torch.Generator().manual_seed(int(seed) % 2**63),  # a loader draws at every pass; not from the user's
        persistent_workers=workers > 0,
    )


def _as_it_is(example: Example) -> Example:
    return example
