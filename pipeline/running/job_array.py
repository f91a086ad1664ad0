"""A job array: many runs on one store, none of which leads. Each does its own slice, then what others left undone."""

import dataclasses
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.labelling.claims import Claim, Claims
from pipeline.labelling.worker import ShardStatus, ShardTask
from softlabels.records.receipts import latest_receipt_keys
from softlabels.store.reader import StoreReader

POLL_S, MAX_POLL_S = 2.0, 60.0  # seconds between two looks at what others do
BLOCK = 32  # shards of others that are looked for at a time; a listing of a large store is a thousand requests


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """One task of a job array: number `index` of `count`, from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "ArrayTask":
        """Read "3/100". Raises: ValueError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not int(found[1]) < int(found[2]):
            raise ValueError(
                f"--task: expected i/n with i from 0 to n - 1, such as 0/100, got {text!r}; a SLURM array that counts "
                "from 0 is `--array=0-99`"
            )
        return cls(int(found[1]), int(found[2]))

    def slice(self, shards: list[int]) -> list[int]:
        """Its share of the shards, which lie together: they may be of one long recording."""
        first, end = (len(shards) * i // self.count for i in (self.index, self.index + 1))
        return shards[first:end]

    def others(self, shards: list[int]) -> list[int]:
        """What is not in its slice, in an order of its own, so that helpers do not run after each other."""
        own = set(self.slice(shards))
        rest = [shard for shard in shards if shard not in own]
        random.Random(self.index).shuffle(rest)
        return rest


def wait_for_plan(claims: Claims, clip_ids: set[str]) -> bool:
    """Let one task of all probe the audio and plan; the others wait for it.

    Args:
      clip_ids: of the manifest.
    Returns: whether it is this task that has to plan.
    """
    storage = claims.storage
    number = 0
    while True:
        plans = StoreReader(storage).plans if storage.exists("store.json") else []
        if number and len(plans) >= number:
            return False
        if not number and plans and clip_ids <= {i for plan in plans for i in plan["clip_id"].unique().to_pylist()}:
            return False
        number = number or len(plans) + 1
        claim = claims.free([f"plan-{number:04d}"]).get(f"plan-{number:04d}")
        if claim is not None and claim.take(storage):
            return True
        time.sleep(POLL_S)


class SharedWork:
    """The shards that are left for this task, from its own slice to those that nobody else is doing.

    Args:
      tasks: what was missing when the run began, or is to be done again; planned: all planned shards, in order.
      on_elsewhere: called with a task that another one has done.
    """

    def __init__(
        self,
        claims: Claims,
        task: ArrayTask,
        tasks: list[ShardTask],
        planned: list[int],
        on_elsewhere: Callable[[ShardTask], None],
    ) -> None:
        self._storage, self._claims, self._on_elsewhere = claims.storage, claims, on_elsewhere
        self._taken: dict[int, Claim] = {}
        self._left = {t.shard: t for t in tasks}
        self._own = set(task.slice(planned))
        self._order = [s for s in (*task.slice(planned), *task.others(planned)) if s in self._left]
        self._receipts = latest_receipt_keys(claims.storage)

    def next_tasks(self) -> list[ShardTask]:
        """What to do next, each with the claim to take first; waits for others; empty once nothing is left."""
        wait_s = POLL_S
        while self._left:
            self._drop_what_others_did()
            names = {_name(shard): shard for shard in self._order if shard in self._left}
            free = self._claims.free(list(names))
            own = [name for name in free if names[name] in self._own]
            chosen = own or list(free)[:BLOCK]
            if chosen:
                self._taken = {names[name]: free[name] for name in chosen}
                return [dataclasses.replace(self._left[shard], claim=claim) for shard, claim in self._taken.items()]
            if self._left:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, MAX_POLL_S)
        return []

    def settle(self, status: ShardStatus) -> None:
        """Take note of what became of a task that `next_tasks` gave."""
        if status.outcome == "claimed":  # meanwhile, by another task
            return
        del self._left[status.shard]
        if status.outcome in ("deferred", "refused"):
            self._taken[status.shard].leave(self._storage, done=False)
        elif status.shard in self._receipts:  # its receipt was there before and may be no other now
            self._taken[status.shard].leave(self._storage, done=True)

    def _drop_what_others_did(self) -> None:
        """Shards with a receipt that was not there at the beginning; of the others, those that are left as done."""
        now = latest_receipt_keys(self._storage)
        again = [shard for shard in self._left if shard in self._receipts]
        done = {shard for shard in self._left if now.get(shard) != self._receipts.get(shard)}
        finished = self._claims.done([_name(shard) for shard in again]) if again else set()
        for shard in done | {shard for shard in again if _name(shard) in finished}:
            self._on_elsewhere(self._left.pop(shard))


def _name(shard: int) -> str:
    return f"shard-{shard:05d}"
