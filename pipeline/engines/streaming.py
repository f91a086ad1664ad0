"""What the joblib backends of the engines have in common: each result, or loss, is handed on as it comes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

CONNECT_S = 30  # for one answer from a scheduler
TRIES = 4  # of a task whose worker died; Dask's and Spark's own default

if TYPE_CHECKING:
    from joblib.parallel import ParallelBackendBase as Base
else:
    Base = object  # put before a backend's class, which has what is missing here


@dataclass(frozen=True, slots=True)
class Lost:
    """What comes back for a task that the engine gave up; which one it was, the store will tell."""

    why: str


class Streaming(Base):
    """Makes a joblib backend hand on each result, or loss, as it comes. To be put before the backend's class."""

    supports_retrieve_callback = True
    supports_return_generator = True

    def effective_n_jobs(self, n_jobs: int) -> int:
        """At least two: with one, joblib would run the tasks in this very process."""
        return max(2, super().effective_n_jobs(n_jobs))

    def retrieve_result_callback(self, out: Any) -> list[Any]:
        """Our tasks never raise, so what is not the list of a task's results is the engine's own complaint."""
        return out if isinstance(out, list) else [Lost(first_line(getattr(out, "exc", out)))]


def first_line(error: BaseException) -> str:
    """Its type, and the first line of what it says."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
