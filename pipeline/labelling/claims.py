"""Claims: who is at work on what, where many runs share a store and nobody leads.

A claim is a small file that is put only if there is none. Its owner shows that it lives by a beat, a file that it
rewrites. Who has seen one and the same beat for EXPIRY_S of its own clock may claim over its owner, as the next
generation of the claim; no two clocks are ever compared. Claims save work and nothing else: what a shard is, its
receipt alone decides, so that two who both believe in their claim do no harm.
"""

import contextlib
import logging
import re
import secrets
import threading
import time
from dataclasses import dataclass, field

from softlabels.errors import SoftLabelsError
from softlabels.os_errors import told
from softlabels.storage.protocol import Storage

logger = logging.getLogger(__name__)
FOLDER = "claims"
BEAT_S, EXPIRY_S = 20.0, 120.0
LEFT, DONE = "left", "done"  # in place of an owner: somebody else may do it; nobody needs to


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to one piece of work; small and picklable, taken by the worker that begins it.

    name: of the work, such as "shard-00017"; owner: of the claim; generation: one more than the claim it follows.
    """

    name: str
    owner: str
    generation: int

    @property
    def key(self) -> str:
        return f"{FOLDER}/{self.name}.c{self.generation}"

    def take(self, storage: Storage) -> bool:
        """Whether the work is the owner's, now or before."""
        return storage.put_if_absent(self.key, self.owner.encode()) or storage.get(self.key) == self.owner.encode()

    def leave(self, storage: Storage, *, done: bool) -> None:
        """Say that the owner is through with it, for others to do (or not) what it has not done."""
        storage.put(self.key, (DONE if done else LEFT).encode())


@dataclass(slots=True)
class Claims:
    """The claims of one run, alive inside the `with` block.

    beat_s: seconds between beats; expiry_s: how long the same beat has to be seen for its owner to count as gone.
    """

    storage: Storage
    beat_s: float = BEAT_S
    expiry_s: float = EXPIRY_S
    owner: str = field(default_factory=lambda: secrets.token_hex(8))
    _seen: dict[str, tuple[bytes, float]] = field(default_factory=dict)  # owner -> its last beat, and since when
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> "Claims":
        self._beat(0)
        self._thread = threading.Thread(target=self._go_on_beating, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything: others need not wait for the expiry."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError, SoftLabelsError):  # a full disk, too
            self.storage.put(self._beat_key(self.owner), LEFT.encode())

    def free(self, names: list[str]) -> dict[str, Claim]:
        """name -> the claim to take, of all the work that nobody alive has claimed, and nobody has left as done."""
        latest = self._latest(set(names))
        now = time.monotonic()
        beats = {owner: self._is_alive(owner, now) for owner in {claim.owner for claim in latest.values()}}
        claims = {}
        for name in names:
            held = latest.get(name)
            if held is None:
                claims[name] = Claim(name, self.owner, 0)
            elif held.owner == self.owner:
                claims[name] = held
            elif held.owner == LEFT or (held.owner != DONE and not beats[held.owner]):
                claims[name] = Claim(name, self.owner, held.generation + 1)
        return claims

    def done(self, names: list[str]) -> set[str]:
        """The work that its owner has left as done."""
        return {name for name, claim in self._latest(set(names)).items() if claim.owner == DONE}

    def _latest(self, names: set[str]) -> dict[str, Claim]:
        """name -> its claim of the highest generation, of those that have one."""
        keys: dict[str, tuple[int, str]] = {}
        for key in self.storage.list(FOLDER):
            found = re.fullmatch(rf"{FOLDER}/(.+)\.c(\d+)", key)
            if found and found[1] in names:
                keys[found[1]] = max(keys.get(found[1], (-1, "")), (int(found[2]), key))
        claims = {}
        for name, (generation, key) in keys.items():
            with contextlib.suppress(FileNotFoundError):  # the store was closed meanwhile
                claims[name] = Claim(name, self.storage.get(key).decode(), generation)
        return claims

    def _is_alive(self, owner: str, now: float) -> bool:
        """Whether an owner's beat has changed within `expiry_s`, as far as this run has seen; a new one is."""
        if owner == self.owner:
            return True
        try:
            beat = self.storage.get(self._beat_key(owner))
        except FileNotFoundError:
            beat = b""
        if beat == LEFT.encode():
            return False
        before, since = self._seen.get(owner, (None, now))
        self._seen[owner] = (beat, since if beat == before else now)
        return now - self._seen[owner][1] < self.expiry_s

    def _go_on_beating(self) -> None:
        number = 0
        while not self._ended.wait(self.beat_s):
            number += 1
            try:
                self._beat(number)
            except (OSError, SoftLabelsError) as e:  # the next one may come through; without any, others do the work
                logger.debug("no beat %d: %s", number, told(e))

    def _beat(self, number: int) -> None:
        self.storage.put(self._beat_key(self.owner), str(number).encode())

    @staticmethod
    def _beat_key(owner: str) -> str:
        return f"{FOLDER}/beat-{owner}"


def clear_claims(storage: Storage) -> None:
    """Delete all claims if every run that made one has ended in good order; else they are swept by age."""
    beats = [key for key in storage.list(FOLDER) if key.startswith(f"{FOLDER}/beat-")]
    try:
        if set(storage.get_many(beats)) <= {LEFT.encode()}:
            storage.sweep(FOLDER, set(), older_than_s=0)
    except FileNotFoundError:  # somebody else is clearing
        return
