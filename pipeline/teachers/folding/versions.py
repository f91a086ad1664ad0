"""The versions of folding: which rewrites each of them does. Bytes in, bytes out; files and checks are in `derived.py`.

A store names the version that its teacher was folded with, and is regenerated with that one, byte for byte: what a
version makes never changes. A faster one is a further version.
"""

from collections.abc import Callable

from pipeline.teachers.folding.graph import OPTIONS, Graph
from pipeline.teachers.folding.halving import convolve_frames, halve_spectra
from pipeline.teachers.folding.image import power_by_logarithm, stack_channels
from pipeline.teachers.folding.mirror import mirror_image
from pipeline.teachers.folding.rewrites import fold_spectra, widen_pieces

Step = Callable[[Graph], object]
STEPS: dict[str, tuple[Step, ...]] = {  # mirror_image looks for channels that are not stacked yet
    "1": (),
    "2": (halve_spectra, convolve_frames, power_by_logarithm, mirror_image, stack_channels),
}


def folded_bytes(content: bytes, steps: tuple[Step, ...]) -> bytes:
    """The same model with its shapes fixed, its spectra folded, and rewritten in some steps.

    Args:
      content: a TFLite model; one batch size.
      steps: of `STEPS`; one whose pattern is not there does nothing.
    Returns: a TFLite model that answers the same within rounding; its `folded_digest` is the same on every machine.
    Raises: TeacherError: it has no spectrum that can be folded.
    """
    graph = Graph(content)
    layers = fold_spectra(graph)
    for step in steps:
        step(graph)
    for layer in layers:
        widen_pieces(graph, layer)  # where the layer still gathers its frames
    return graph.to_bytes()


def folded_digest(derived: bytes, folding: str) -> str:
    """Of what a folded model computes; the first version edited no options, and its digests do not cover any."""
    return Graph(derived).digest(() if folding == "1" else OPTIONS)
