"""Everything before the first window is scored: settings, probes, plan; and the store that holds them."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import softlabels
from pipeline.options import check_numbers, option
from pipeline.planning.changes import new_clips
from pipeline.planning.components import ComponentChoice, choose_components
from pipeline.planning.dataset_card import dataset_card, requirements
from pipeline.planning.lost_paths import check_lost
from pipeline.planning.places import Places
from pipeline.planning.plan import default_shard_windows, lay_out_clip, pack_shards
from pipeline.planning.probe import FileProbe
from pipeline.planning.probe_files import probe_files
from pipeline.planning.probe_workers import LOOK_S
from pipeline.planning.settings import setting_differences
from pipeline.processes import Workers, within
from pipeline.teachers.loading import as_labelled, load_teacher, works_in_batches
from pipeline.teachers.teacher import Teacher, TeacherChoice, derivation, embedding_width
from softlabels.audio.decode import DEFAULT_BUDGET, AudioBudget
from softlabels.audio.root import is_there
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import match_classes
from softlabels.corpus.clip_paths import below_root
from softlabels.corpus.manifest import Clip, check_names_of, read_manifest
from softlabels.digests import sha256_of_bytes
from softlabels.errors import ClassListError, ManifestError, StoreError
from softlabels.records.plan_file import PlannedClip, encode_plan, plan_table
from softlabels.records.spec import LabelSpec, Layout
from softlabels.storage.file_cache import user_folder
from softlabels.storage.local import LocalStorage
from softlabels.storage.location import Location, absolute, location
from softlabels.storage.opening import open_storage
from softlabels.storage.protocol import Storage
from softlabels.store.components import components_key
from softlabels.store.reader import StoreReader
from softlabels.tables import some
from softlabels.windows import WindowSpec

PROBE_CACHE = "probe_cache.jsonl"
BEFORE_STORE_JSON = {PROBE_CACHE, "classes.txt", "requirements.txt", "README.md", "claims", "components"}
DEFAULT_MIN_PROBABILITY = 1e-4
ZSTD_LEVEL = 1  # of new stores; BirdNET: 0.10 ms a window, where 6 takes 0.28 and 3 takes 0.14, and no more bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """What the user may choose that changes bytes; None means the store's own setting, or the default."""

    overlap_s: float | None = option(None, "of neighbouring windows, default 0", metavar="SECONDS")
    jitters: int | None = option(None, "mean over J shifts within 50 ms, at J times the cost; default 1", metavar="J")
    keep_classes: str | Path | None = option(
        None, "keep only these classes, and the sum over the others", metavar="FILE"
    )
    components: int | str | Path | None = option(
        None, "with --keep-classes: N numbers that sum up all classes, default 64, or a FILE's", metavar="N|FILE"
    )
    layout: Layout | None = option(None, "all classes, or only those above a threshold")
    min_probability: float | None = option(None, "the threshold of sparse, default 0.0001", metavar="P")
    shard_windows: int | None = option(None, "windows a file; default by corpus, 64 to 1024", metavar="N")

    def __post_init__(self) -> None:
        names = ("overlap_s", "jitters", "min_probability", "shard_windows")
        check_numbers({name: getattr(self, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Everything decided before the first window is scored.

    new: the clips to plan, packed into shards; classes: those that the store keeps; components: beside them; store: the
    one to go on with, None to make one.
    places: where files are that an older plan has elsewhere.
    waiting: why files could not even be probed; their clips are left for a later run.
    notes: path -> what is odd about a file, though it can be labelled.
    """

    clips: list[Clip]
    root: Location
    teacher: Teacher
    choice: TeacherChoice
    spec: LabelSpec
    new: list[PlannedClip]
    classes: ClassList
    components: ComponentChoice
    store: StoreReader | None
    places: Places
    waiting: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict)


def read_clips(manifest: str | Path | list[Clip], root: str | Path | None) -> tuple[list[Clip], Location]:
    """The clips of a manifest, and the folder or bucket that their paths are relative to."""
    clips = check_names_of(manifest, "clips") if isinstance(manifest, list) else read_manifest(manifest)
    if root is not None:
        audio_root = location(root)
    elif isinstance(manifest, list):
        raise ValueError("root: clips that come from no file need the folder their paths are relative to")
    else:
        audio_root = Path(manifest).resolve().parent
    return below_root(clips, audio_root), audio_root


def prepare(
    clips: list[Clip],
    root: Location,
    store: str | Path,
    choice: TeacherChoice,
    labelling: LabelOptions,
    *,
    jobs: int,
    workers: Workers | None = None,
    budget: AudioBudget = DEFAULT_BUDGET,
    on_probed: Callable[[int, int], None] = lambda files, total: None,
    probe: bool = True,
    probe_again: bool = False,
    dry_run: bool = False,
) -> Preparation:
    """Check everything that can be checked, probe the audio, and plan; writes the probe cache, in a dry run nothing.

    The audio is probed by the processes of `workers`, without them in `jobs` threads.
    Without `probe` the store's plan is taken as it is: another run has just made it. With `probe_again` every file is
    read, also where its size and time are as they were.

    Raises: ManifestError, TeacherError, StoreError: what cannot be, with what to do.
    """
    storage = _checked_storage(store, root, by_writing=not dry_run)
    existing = _existing_store(storage)
    choice = choice if existing is None else as_labelled(choice, existing.spec)
    teacher = load_teacher(choice)
    classes = _kept_classes(teacher, labelling, existing)
    components = choose_components(labelling.components, teacher, classes, existing)
    spec = _spec(teacher, classes, components, choice, labelling, existing)
    paths = {clip.path for clip in clips} if probe else set()
    probes = probe_files(
        root,
        paths,
        cache=_probe_cache(storage),
        budget=budget,
        distrusted=paths if probe_again else _changed(existing, clips),
        workers=workers or Workers(0, threads=jobs),
        on_probed=lambda done: on_probed(done, len(paths)),
        keep=not dry_run,
    )
    new = _clips_to_plan(clips, probes, spec, existing, root)
    if existing is None and labelling.shard_windows is None:
        spec = dataclasses.replace(spec, shard_windows=default_shard_windows(sum(clip.windows for clip in new)))
    return Preparation(
        clips=clips,
        root=root,
        teacher=teacher,
        choice=_with_batch_size(choice, teacher),
        spec=spec,
        new=_packed(new, spec, existing),
        classes=classes,
        components=components,
        store=existing,
        places=Places.of(clips, probes),
        waiting=tuple(probe.trouble for probe in probes.values() if probe.trouble),
        notes={path: probe.note for path, probe in probes.items() if probe.note},
    )


def _clips_to_plan(
    clips: list[Clip], probes: dict[str, FileProbe], spec: LabelSpec, existing: StoreReader | None, root: Location
) -> list[PlannedClip]:
    """The clips that no plan has, or has otherwise, as their files are. Raises: ManifestError, StoreError."""
    readable = [clip for clip in clips if clip.path in probes and not probes[clip.path].trouble]
    laid_out = [lay_out_clip(clip, probes[clip.path], spec.window) for clip in readable]
    new = new_clips(laid_out, existing, root)
    check_lost(probes, root, new=new, store=existing)
    return new


def _packed(new: list[PlannedClip], spec: LabelSpec, existing: StoreReader | None) -> list[PlannedClip]:
    first_shard = 0 if existing is None else existing.planned_shards
    return pack_shards(new, shard_windows=spec.shard_windows, first_shard=first_shard)


def _checked_storage(store: str | Path, root: Location, *, by_writing: bool) -> Storage:
    """Where a store can be made, of audio that is there. Raises: StoreError, ManifestError."""
    storage = open_storage(store)
    storage.check(by_writing=by_writing)
    if not within(LOOK_S, is_there, root):
        raise ManifestError(f"audio root '{root}': no such folder; name the folder of the recordings with --root")
    return storage


def _with_batch_size(choice: TeacherChoice, teacher: Teacher) -> TeacherChoice:
    """Workers must not look for a size of their own."""
    if not works_in_batches(choice):
        return choice
    return dataclasses.replace(choice, batch_size=teacher.batch_size, batch_fixed=True)


def _probe_cache(storage: Storage) -> Path:
    """Beside the store; that of a bucket, or one where a link or no file is in its place, is in this user's cache."""
    if isinstance(storage, LocalStorage):
        path = storage.path(PROBE_CACHE)
        if not path.is_symlink() and (path.is_file() or not path.exists()):
            return path
    return user_folder() / "probes" / f"{sha256_of_bytes(str(storage).encode())[:16]}.jsonl"


def _existing_store(storage: Storage) -> StoreReader | None:
    """The store to go on with, or None. Raises: StoreError: the folder is something else."""
    if storage.exists("store.json"):
        return StoreReader(storage)
    foreign = sorted(name for name in storage.names() - BEFORE_STORE_JSON if not name.startswith(".tmp-"))
    if foreign and storage.exists("store.json"):  # another run has just made it
        return StoreReader(storage)
    if foreign:
        raise StoreError(
            f"store '{storage}': the folder holds other things ({foreign[0]!r}) and no store.json; name another folder "
            "with -o"
        )
    return None


def _kept_classes(teacher: Teacher, labelling: LabelOptions, existing: StoreReader | None) -> ClassList:
    """The classes the store keeps, by the teacher's names, in the order of the file. Raises: ClassListError."""
    if labelling.keep_classes is None:
        return existing.classes if existing is not None and existing.spec.keeps_some else teacher.classes
    match = match_classes(ClassList.from_file(labelling.keep_classes), teacher.classes, min_coverage=0)
    if match.unmatched:
        raise ClassListError(
            f"--keep-classes '{labelling.keep_classes}': teacher {teacher.name!r} lacks {len(match.unmatched)} of "
            f"them: {some(match.unmatched)}; `softlabels classes LIST` looks for them"
        )
    return ClassList(tuple(teacher.classes[i] for i in match.teacher_classes))


def _spec(
    teacher: Teacher,
    classes: ClassList,
    components: ComponentChoice,
    choice: TeacherChoice,
    labelling: LabelOptions,
    existing: StoreReader | None,
) -> LabelSpec:
    """The settings of this run: what was chosen, else the store's, else the defaults, of which that of `shard_windows`
    grows with the corpus. Raises: StoreError: the store was made with others."""
    names = ("layout", "min_probability", "shard_windows", "jitters")
    settings: dict[str, Any] = {"layout": "dense", "min_probability": 0.0, "jitters": 1, "zstd_level": ZSTD_LEVEL}
    settings["shard_windows"] = default_shard_windows(0)
    if existing is not None:
        settings = {name: getattr(existing.spec, name) for name in (*names, "zstd_level")}
    settings |= {name: getattr(labelling, name) for name in names if getattr(labelling, name)}
    if settings["layout"] == "sparse":
        settings["min_probability"] = settings["min_probability"] or DEFAULT_MIN_PROBABILITY
    elif labelling.min_probability is not None:
        raise ValueError("--min-probability goes with --layout sparse; a dense store keeps every probability")
    else:
        settings["min_probability"] = 0.0
    if labelling.overlap_s is None and existing is not None:
        window = existing.spec.window
    else:
        window = WindowSpec.from_overlap(teacher.rate_hz, teacher.window_samples, overlap_s=labelling.overlap_s or 0.0)
    settings |= derivation(teacher) | components.settings | {"embedding": _kept_embedding(teacher, choice, existing)}
    spec = LabelSpec(
        teacher=teacher.name,
        teacher_digest=teacher.digest,
        class_digest=classes.digest,
        teacher_class_digest="" if classes == teacher.classes else teacher.classes.digest,
        activation=teacher.activation,
        window=window,
        batch_size=teacher.batch_size,
        portable=choice.portable,
        **settings,
    )
    if existing is not None and spec != existing.spec:
        raise StoreError(
            f"store '{existing.storage}' was made with other settings: "
            f"{setting_differences(spec, classes, choice, existing)}; use the store's, or label into another store "
            "with -o"
        )
    return spec


def _kept_embedding(teacher: Teacher, choice: TeacherChoice, existing: StoreReader | None) -> int:
    """The field of a spec. Raises: StoreError: the store was made without, or with others."""
    width = embedding_width(teacher) if choice.embedding else 0
    if existing is not None and width != existing.spec.embedding:
        own = existing.spec.embedding
        raise StoreError(
            f"store '{existing.storage}' was made with other settings: embedding: {own or 'none'}, not {width}; its "
            f"windows {f'have {own} numbers each' if own else 'were scored without one'}, so it can be extended only "
            f"{'with a model of that width' if own else 'without: leave out --embedding'}, or label into another "
            "store with -o"
        )
    return width


def _changed(existing: StoreReader | None, clips: list[Clip]) -> set[str]:
    """The files whose bytes were not those of their probe, although size and time may be."""
    if existing is None:
        return set()
    changed = {entry.clip_id for entry in existing.census.quarantine if entry.reason == "changed-since-probe"}
    return {clip.path for clip in clips if clip.clip_id in changed}


def write_plan(path: str | Path, prepared: Preparation) -> StoreReader:
    """Make the store, or extend it, so that it holds the plan; returns it opened.

    Of runs that make one store at the same time, whoever's `classes.txt` and then `store.json` is there first has made
    it; nothing of another run is written after them.

    Raises: StoreError: another run made, or extended, the store at the same time.
    """
    storage = open_storage(path)
    store = _decide_store(storage, prepared) if prepared.store is None else prepared.store
    if prepared.new:
        if not store.plans:
            storage.put_if_absent("requirements.txt", requirements().encode())
            card = dataset_card(store.spec, prepared.teacher, prepared.classes)
            storage.put_if_absent("README.md", card.encode())
        number = 1 + (len(prepared.store.plans) if prepared.store is not None else 0)
        data = encode_plan(plan_table(prepared.new), store.spec.fingerprint())
        key = f"plan/{number:04d}.parquet"
        if not storage.put_if_absent(key, data) and storage.get(key) != data:
            raise StoreError(f"store '{path}': another run with another manifest planned at the same time; run again")
    # For people to read: a store may be a stranger's, so commands believe this user's own runs only.
    hints = {"audio_root": absolute(prepared.root), "teacher": dataclasses.asdict(prepared.choice)}
    storage.put_if_changed("run.json", json.dumps(hints, indent=2).encode() + b"\n")
    return store if prepared.store is not None and not prepared.new else softlabels.open(path)


def _decide_store(storage: Storage, prepared: Preparation) -> StoreReader:
    """Make a store with the settings of this run, unless another run has. Raises: StoreError: with other settings."""
    spec = prepared.spec
    header = {"format_version": spec.format_version, "fingerprint": spec.fingerprint(), "spec": spec.to_json()}
    if prepared.components.file:
        storage.put(components_key(spec.component_digest), prepared.components.file)  # named by content
    classes = prepared.classes.to_text().encode()
    if not storage.put_if_absent("classes.txt", classes) and storage.get("classes.txt") != classes:
        raise StoreError(
            f"store '{storage}': another run is making it with another class list; label into another store with -o, "
            "or, if none is at work there, delete its classes.txt"
        )
    storage.put_if_absent("store.json", json.dumps(header, indent=2).encode() + b"\n")
    store = StoreReader(storage)
    if prepared.components.to_fit and store.spec.components == spec.components:  # whoever came first has fitted them
        spec = dataclasses.replace(spec, component_digest=store.spec.component_digest)
    if store.spec != spec:
        raise StoreError(
            f"store '{storage}': another run made it at the same time with other settings: "
            f"{setting_differences(spec, prepared.classes, prepared.choice, store)}; use the store's, or label "
            "into another store with -o"
        )
    return store
