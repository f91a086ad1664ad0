"""The descriptions. A fact that no source could be found for is not in here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.teachers.known.class_lists import coded_names, listed_names, sheet_names
from pipeline.teachers.signatures.roles import Published
from softlabels.classes.class_list import Activation
from softlabels.classes.list_file import ListFile


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A published model, and what its file does not say of itself.

    rate_hz, window_s: the audio; any_window: `--window` may ask for another length.
    published: its outputs by the names they have where the file names them.
    peak, remove_mean, scale, offset: see `Handling` in `signatures.passage`.
    batch_size: windows a forward pass where the export is fixed to it; None is free.
    read_classes: reads its class list, of the format `classes`.
    package, model, labels: the package that brings it, and where in it; "" where nothing ships it. install: how to get
      it beside softlabels.
    sha256: of files whose author is known, so that nobody has to confirm them.
    tried: what was at hand when this was written: "the model", or "a made model of this signature".
    sources: fact -> where it is from.
    """

    name: str
    title: str
    rate_hz: int
    window_s: float
    published: Published
    activation: Activation
    outputs: Literal["logits", "probabilities"]
    classes: str
    read_classes: Callable[[Path], ListFile]
    licence: str
    tried: str
    sources: dict[str, str]
    any_window: bool = False
    batch_size: int | None = None
    peak: float = 0.0
    remove_mean: bool = False
    scale: float = 1.0
    offset: float = 0.0
    package: str = ""
    install: str = ""
    model: str = ""
    labels: str = ""
    sha256: tuple[str, ...] = ()


BIRDNET_V3 = KnownModel(
    name="birdnet-v3",
    title="BirdNET V3.0, developer preview 3.1: 11,560 species of birds and other animals",
    rate_hz=32_000,
    window_s=3.0,
    any_window=True,
    batch_size=1,
    published=Published(scores="predictions", embedding="embeddings", shapes={"embeddings": (1280,)}),
    activation="sigmoid",
    outputs="probabilities",
    classes="its CSV (sci_name and com_name, divided by semicolons), or one name a line",
    read_classes=sheet_names,
    licence="CC BY-SA 4.0, with terms of use",
    tried="made models of its signatures",
    sources={
        "32 kHz, 3 s, sigmoid in the model, one window a pass": "package birdnet 1.3.1, acoustic/models/v3_0",
        "outputs predictions and embeddings, 1,280 values": "package birdnet 1.3.1, v3_0/pb.py and custom_tflite.py",
        "any length; the CSV; licence": "github.com/birdnet-team/birdnet-V3.0-dev, README.md and analyze.py",
        "the files": "zenodo.org/records/20703646",
    },
)
PERCH_V2 = KnownModel(
    name="perch-v2",
    title="Perch v2: 14,795 classes, birds, other animals and sounds",
    rate_hz=32_000,
    window_s=5.0,
    published=Published(
        scores="label",
        embedding="embedding",
        shapes={
            "label": (14_795,),
            "embedding": (1536,),
            "spatial_embedding": (16, 4, 1536),
            "spectrogram": (500, 128),
        },
    ),
    activation="sigmoid",
    outputs="logits",
    remove_mean=True,
    peak=0.25,
    scale=0.97,
    offset=-10.0,
    classes="assets/labels.csv of the model: a heading, then one name a line",
    read_classes=listed_names,
    licence="Apache-2.0",
    tried="made models of its signature",
    sources={
        "32 kHz, 5 s; mean off, peak 0.25": "package perch-hoplite 1.0.2, zoo/model_configs.py and zoo_interface.py",
        "outputs label, embedding, spatial_embedding, spectrogram": "huggingface.co/justinchuby/Perch-onnx, README.md",
        "14,795 classes": "package birdnet 1.3.1, acoustic/models/perch_v2/pb.py",
        "logits * 0.97 - 10, then a sigmoid": "said of perch-hoplite by others; its models_onnx.py has logit_slope and "
        "logit_intercept after 1.0.2, which leaves logits as they are",
    },
)
NIGHTHAWK = KnownModel(
    name="nighthawk",
    title="Nighthawk 0.3.1: 130 species by their nocturnal flight calls, North America",
    rate_hz=22_050,
    window_s=1.0,
    published=Published(
        scores="output_4",
        shapes={"output_1": (4,), "output_2": (19,), "output_3": (17,), "output_4": (130,)},
    ),
    activation="sigmoid",
    outputs="logits",
    classes="taxonomy/species.txt: eBird codes, named by the ebird_taxonomy.csv beside it",
    read_classes=coded_names,
    licence="CC BY-NC 4.0, for non-commercial use",
    tried="the model",
    package="nighthawk",
    install="pip install --no-deps --ignore-requires-python nighthawk==0.3.1",  # it is read, never imported
    model="saved_model_with_preprocessing",
    labels="taxonomy/species.txt",
    sha256=("1e5f7053e29dea4af9232a06a0bc612a36337a6ea18e9877a9084ddc5f8f3a08",),
    sources={
        "22.05 kHz, 1 s; logits of orders, families, groups, species": "package nighthawk 0.3.1, detector.py",
        "a sigmoid of them": "package nighthawk 0.3.1, run_reconstructed_model.py",
        "outputs output_1 to output_4": "its SavedModel",
        "licence": "its METADATA",
    },
)
KNOWN = {each.name: each for each in (BIRDNET_V3, PERCH_V2, NIGHTHAWK)}
