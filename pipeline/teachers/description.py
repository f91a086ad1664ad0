"""What no model file says of itself, as its user says it or as a known model's description does."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.teachers.known.models import KNOWN, KnownModel
from pipeline.teachers.known.places import find_known
from pipeline.teachers.signatures.passage import Handling
from pipeline.teachers.signatures.roles import ROLES
from pipeline.teachers.teacher import Outputs, TeacherChoice
from softlabels.classes.class_list import Activation, ClassList
from softlabels.classes.list_file import ListFile, read_list
from softlabels.errors import ClassListError, TeacherError


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model, and what no model file says of itself.

    name: what the teacher is called; notice: what people have to be told, may be empty.
    batch_size: windows a forward pass where the model is fixed to it. sha256: of models that need not be confirmed.
    taxonomy_year: of the names in its class list, where that states one; else 0.
    """

    model: Path
    classes: ClassList
    rate_hz: int
    activation: Activation
    outputs: Outputs
    handling: Handling = field(default_factory=Handling)
    name: str = ""
    notice: str = ""
    batch_size: int | None = None
    sha256: tuple[str, ...] = ()
    taxonomy_year: int = 0


def described(choice: TeacherChoice) -> Description:
    """The model of a choice.

    Raises: TeacherError: something is missing that no model file says of itself. ValueError: an `--output` that is not
      ROLE=NAME.
    """
    if choice.kind in KNOWN:
        return _of_known(choice, KNOWN[choice.kind])
    model, labels, rate_hz = choice.model, choice.labels, choice.rate_hz
    activation, outputs = choice.activation, choice.outputs
    if not (model and labels and rate_hz and activation and outputs):
        given = {"--model": model, "--labels": labels, "--rate": rate_hz}
        given |= {"--activation": activation, "--outputs": outputs}
        missing = ", ".join(flag for flag, value in given.items() if not value)
        raise TeacherError(
            f"teacher {choice.kind!r} needs {missing}: the model, its class list (one name a line), the sample rate in "
            "Hz, sigmoid or softmax, and whether the model gives logits or probabilities"
        )
    scores, embedding = _named_outputs(choice)
    listed, classes = _listed(labels, choice.labels_column or "")
    return Description(
        name=Path(model).stem,
        model=Path(model),
        classes=classes,
        notice=_told(listed).strip(),
        taxonomy_year=listed.taxonomy_year,
        rate_hz=rate_hz,
        activation=activation,
        outputs=outputs,
        handling=Handling(
            window_samples=round(choice.window_s * rate_hz) if choice.window_s else None,
            scores=scores,
            embedding=embedding,
            embed=choice.embedding,
            pool=choice.pool or "",
            scale=1.0 if choice.scale is None else choice.scale,
            offset=choice.offset or 0.0,
            peak=choice.peak or 0.0,
            remove_mean=choice.remove_mean,
        ),
    )


def read_labels(path: str | Path) -> ClassList:
    """The class list of a model. Raises: TeacherError."""
    return _listed(path, "")[1]


def _listed(path: str | Path, column: str) -> tuple[ListFile, ClassList]:
    try:
        listed = read_list(path, column=column)
        return listed, ClassList.of_file(path, listed)
    except ClassListError as e:
        raise TeacherError(f"labels: {e}") from e


def _told(listed: ListFile) -> str:
    return f" Its class list: {listed.remark}." if listed.remark else ""


def _of_known(choice: TeacherChoice, known: KnownModel) -> Description:
    model, labels = find_known(known, choice.model, choice.labels)
    try:
        listed = known.read_classes(labels)
        classes = ClassList.of_file(labels, listed)
    except ClassListError as e:
        raise TeacherError(f"labels: {e}; teacher {known.name!r} reads {known.classes}") from e
    scores, embedding = _named_outputs(choice)
    return Description(
        name=known.name,
        model=model,
        classes=classes,
        rate_hz=known.rate_hz,
        activation=known.activation,
        outputs=known.outputs,
        handling=Handling(
            window_samples=round((choice.window_s or known.window_s) * known.rate_hz),
            scores=scores,
            embedding=embedding,
            embed=choice.embedding,
            published=known.published,
            scale=known.scale,
            offset=known.offset,
            peak=known.peak,
            remove_mean=known.remove_mean,
        ),
        notice=f"{known.title}: licensed {known.licence}.{_told(listed)}",
        taxonomy_year=listed.taxonomy_year,
        batch_size=known.batch_size,
        sha256=known.sha256,
    )


def _named_outputs(choice: TeacherChoice) -> tuple[str, str]:
    """The names of the outputs for scores and embedding; "" where none is given. Raises: ValueError."""
    named: dict[str, str] = {}
    for text in choice.output:
        role, _, name = text.partition("=")
        if role not in ROLES or not name or role in named:
            raise ValueError(f"--output: expected scores=NAME or embedding=NAME, each at most once, got {text!r}")
        named[role] = name
    return named.get("scores", ""), named.get("embedding", "")
