"""Do students gain from soft labels? BirdNET, and a teacher of our own, teach small students; one table a trial.

    python tests/benchmarks/bench_student.py --fair --int8 --songs --embedding --weak [--digits fsdd.tar.gz]
        [--recording soundscape.flac] [--seeds 5] [--work DIR] [--plot out.png]

Every arm goes through the package's store, join, calibration, targets and loss; all students have the same network,
pictures and number of steps, and only labels and loss differ. Pictures are computed once with `make_dataset` and kept
with stores and answers under --work, so an interrupted run goes on. Differences are paired, in points of accuracy
against hard only, with a 95 % interval of Student's t over the seeds; the JSON also has a bootstrap over seeds and test
clips. The last line of stdout is one JSON object. Needs the extras `birdnet` and `report`, and scipy.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import logging
import os
import platform
import time
from pathlib import Path

import comparison
import numpy as np
import proof_fair
from proof_digits import compare_digits
from proof_recording import transfer
from proof_songs import (
    CHOICE,
    HARD_ONLY,
    NETWORKS,
    REPORT,
    Classroom,
    compare,
    compare_augmented,
    compare_embedding,
    compare_int8,
    compare_jittered,
    compare_unannotated,
    compare_weak,
)
from students import STEPS

REPORTED, CHOOSING = 100, 0  # the first seed of each


def main() -> None:
    arguments = parse()
    logging.getLogger("softlabels").setLevel(logging.ERROR)  # every join says that a corpus has splits of its own
    start = time.perf_counter()
    seeds = range(first := CHOOSING if arguments.choose else REPORTED, first + arguments.seeds)
    print_machine()
    results: dict[str, object] = {"seeds": list(seeds), "corpora": "choice" if arguments.choose else "report"}
    if arguments.fair:
        results["fair"] = fair(arguments)
    if arguments.songs or arguments.embedding or arguments.int8 or arguments.augmented is not None:
        room = Classroom.open(arguments.work, CHOICE if arguments.choose else REPORT, arguments.jobs)
        results["teacher"] = round(room.teacher_accuracy(), 4)
    if arguments.songs:
        results["songs"] = songs(room, arguments, seeds)
    if arguments.embedding:
        found = compare_embedding(
            room, arguments.work, seeds, choose=arguments.choose, shares=arguments.embedding_shares
        )
        for network in NETWORKS:
            of_network = [each for each in found if each.arm.endswith(network)]
            title, recipe = f"songs, the teacher's embedding too, {network}", f"recipe, {network}"
            results[f"embedding, {network}"] = show(title, of_network, recipe)
    if arguments.augmented is not None:
        found = compare_augmented(room, seeds, arguments.augmented or [STEPS])
        results["augmented"] = [dataclasses.asdict(one) for one in found]
    if arguments.int8:
        results["int8"] = show("int8, 10 % annotated", compare_int8(room, seeds), HARD_ONLY)
        results["int8 keeps"] = kept_gain(results["int8"])
    if arguments.weak:
        weak = compare_weak(arguments.work, seeds, arguments.jobs, choose=arguments.choose)
        results["weak"] = show("60 s clips with one short song", weak, weak[0].arm)
    if arguments.digits:
        outcomes = compare_digits(arguments.digits, arguments.work, seeds, choose=arguments.choose, jobs=arguments.jobs)
        results["digits"] = show("spoken digits", outcomes, HARD_ONLY)
    if arguments.recording:
        results["recording"] = recording(arguments, seeds)
    results["seconds"] = round(time.perf_counter() - start)
    print(json.dumps(results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--fair", action="store_true", help="against augmented hard labels, corpora drawn anew for each seed")
    add("--shares", type=float, nargs="+", default=list(proof_fair.SHARES), help="annotated, of --fair")
    add("--steps", type=int, nargs="+", default=[400, 1600], help="of --fair")
    add("--without", action="store_true", help="with --fair: each class in turn is one that the teacher lacks")
    add("--calls", action="store_true", help="with --fair: calls of the second generator instead of songs")
    add("--weak-rooms", type=int, default=0, help="with --fair: so many corpora of long, weakly labelled clips too")
    add("--songs", action="store_true", help="BirdNET and synthesised songs, 2 to 100 %% annotated")
    add("--embedding", action="store_true", help="songs, the recipe with and without the teacher's embedding")
    add("--embedding-shares", type=float, nargs="+", default=[0.02, 0.1, 1.0], help="annotated, of --embedding")
    add("--augmented", type=int, nargs="*", metavar="STEPS", help="songs, hard only and the recipe, both augmented")
    add("--weak", action="store_true", help="60 s clips with one short song")
    add("--int8", action="store_true", help="the students at 10 %% as TFLite int8")
    add("--digits", type=Path, metavar="TAR", help="the Free Spoken Digit Dataset")
    add("--recording", type=Path, metavar="FLAC", help="a field recording")
    add("--seeds", type=int, default=5)
    add("--jobs", type=int, default=2, help="students trained at once")
    add(
        "--work",
        type=Path,
        default=Path("bench_student"),
        metavar="DIR",
        help="where stores and answers are kept; after a change of the code, use another",
    )
    add("--plot", type=Path, metavar="PNG")
    add("--choose", action="store_true", help="the corpora and seeds that choices were made on, not the reported ones")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds: an interval needs 2 or more, got {arguments.seeds}")
    return arguments


def fair(arguments: argparse.Namespace) -> dict:
    """The main table: `--seeds` corpora, each with a seed of its own; then the same students as int8."""
    make = proof_fair.call_room if arguments.calls else proof_fair.song_room
    rooms = [make(arguments.work, seed) for seed in range(arguments.seeds)]
    arms = {name: proof_fair.ARMS[name] for name in (proof_fair.HARD_ONLY, proof_fair.ADAPTED)}
    found = proof_fair.compare_fair(rooms, arms, arguments.steps, arguments.shares, jobs=arguments.jobs)
    print("\n" + "\n".join(proof_fair.verdicts(found)), flush=True)
    results: dict[str, object] = {"verdicts": proof_fair.verdicts(found)}
    if arguments.int8:
        found += proof_fair.int8(rooms, arguments.steps[-1], 0.1, arguments.jobs)
    if arguments.without:
        results["without"] = proof_fair.without_each_class(rooms, arguments.steps[-1], 0.1, arguments.jobs)
    if arguments.weak_rooms:
        rooms = [proof_fair.weak_room(arguments.work, seed) for seed in range(arguments.weak_rooms)]
        weak = proof_fair.compare_weak_fair(rooms, arguments.steps[-1], arguments.jobs)
        for drawn in ("evenly", "by weights"):
            ours, theirs = (f"{arm}, {drawn}" for arm in (proof_fair.ADAPTED, proof_fair.HARD_ONLY))
            print(f"{drawn}: {proof_fair.verdicts(weak, ours, theirs)[0]}", flush=True)
        found += weak
    return {**results, "outcomes": proof_fair.as_json(found)}


def songs(room: Classroom, arguments: argparse.Namespace, seeds: range) -> list[dict]:
    """The main table and the plot."""
    outcomes = compare_unannotated(room, seeds) + compare(room, seeds)
    if not arguments.choose:
        outcomes += compare_jittered(room, arguments.work, seeds)
    if arguments.plot:
        comparison.plot(outcomes, arguments.plot, teacher=room.teacher_accuracy())
    title = f"songs: {len(outcomes[0].right[0])} test clips, the teacher is right in {room.teacher_accuracy():.1%}"
    return show(title, outcomes, HARD_ONLY)


def show(title: str, outcomes: list[comparison.Outcome], reference: str) -> list[dict]:
    print(f"\n{title}; {len(outcomes[0].right)} seeds; % right (difference to {reference}: 95 % interval, in points)\n")
    print(comparison.table(outcomes, reference), flush=True)
    return comparison.as_json(outcomes, reference)


def kept_gain(rows: list[dict]) -> list[float]:
    """The int8 student's lead over hard only, as int8 and as float, divided by the float student's over float."""
    hard, hard_int8, default, int8 = (row["accuracy"] for row in rows)
    kept = [round((int8 - other) / (default - hard), 3) for other in (hard_int8, hard)]
    print(f"\nthe int8 student keeps {kept[0]:.0%} of the gain over hard only as int8, {kept[1]:.0%} over it as float")
    return kept


def recording(arguments: argparse.Namespace, seeds: range) -> dict:
    """Transfer of labels within one recording."""
    part = (0.0, 0.75) if arguments.choose else (0.0, 1.0)
    found = transfer(arguments.recording, arguments.work, seeds, part=part, jobs=arguments.jobs)
    print(
        f"\n{arguments.recording.name}: {found.train_windows} training and {found.test_windows} test windows, "
        f"{found.classes} classes\nmean KL to the teacher {found.student.mean():.3f} nats (seeds from "
        f"{found.student.min():.3f} to {found.student.max():.3f}), a constant's {found.constant:.3f}: "
        f"{found.ratio:.2f} of it"
    )
    numbers = {"student": np.round(found.student, 4).tolist(), "constant": round(found.constant, 4)}
    return {**numbers, "ratio": round(found.ratio, 3), "classes": found.classes}


def print_machine() -> None:
    names = ("ai-edge-litert", "keras", "numpy", "tensorflow")
    versions = {name: importlib.metadata.version(name) for name in names}
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; {versions}")


if __name__ == "__main__":
    main()
