"""A message to an agent, and what became of it: the surface under ``/api``.

A job is a run as that surface shows it. May not know journals. Invariant: a status that this
version does not know is kept as the text that it is.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union

from .problems import DormouseError, Unreachable
from .sse import messages

if TYPE_CHECKING:
    from .client import Client

#: Pauses between looks, where following is not possible, in seconds.
POLL_FIRST = 0.1
POLL_MAX = 2.0


class JobStatus(str, enum.Enum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PARKED = "parked"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return str(self.value)


ENDED = frozenset((JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED))
_END_EVENTS = frozenset(("job_completed", "job_failed", "job_cancelled", "end"))


class JobFailedError(DormouseError):
    """The job ended, and not well."""

    def __init__(self, job: "Job") -> None:
        self.job = job
        self.job_id = job.id
        self.status = job.status
        why = f": {job.error}" if job.error else ""
        super().__init__(f"{job.id} is {job.status}{why}")


class WaitTimeout(DormouseError, TimeoutError):
    """The job goes on; only the waiting is over."""


class Job:
    """A job, as it was when it was last looked at."""

    def __init__(self, client: "Client", raw: Mapping[str, Any]) -> None:
        self._client = client
        self.raw: Dict[str, Any] = dict(raw)

    def __repr__(self) -> str:
        return f"Job(id={self.id!r}, status={str(self.status)!r})"

    @property
    def id(self) -> str:
        """Its id; the run has the same."""
        return str(self.raw.get("id") or self.raw.get("job_id") or self.raw["run_id"])

    @property
    def agent_id(self) -> str:
        """The agent that it was given to."""
        return str(self.raw.get("agent_id", ""))

    @property
    def status(self) -> Union[JobStatus, str]:
        """Where it stands."""
        return read_status(self.raw.get("status"))

    @property
    def goal(self) -> str:
        """What was asked."""
        return str(self.raw.get("goal") or "")

    @property
    def output(self) -> Any:
        """What it came to."""
        return self.raw.get("output")

    @property
    def error(self) -> Any:
        """What went wrong."""
        return self.raw.get("error")

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self.status in ENDED

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for something that does not come by itself."""
        return self.status in (JobStatus.WAITING, JobStatus.PARKED)

    def refresh(self) -> "Job":
        """Looks again."""
        self.raw = self._client.get(self.id).raw
        return self

    def wait(self, timeout: float = 300.0, *, poll_interval: float = POLL_MAX) -> "Job":
        """Waits until it has ended.

        Raises ``JobFailedError`` if it did not complete and ``WaitTimeout`` if it takes longer.
        Follows its events; where that is not possible it looks every ``poll_interval`` seconds.
        """
        until, pause = time.monotonic() + timeout, min(POLL_FIRST, poll_interval)
        follows = True
        while not self.refresh().is_terminal:
            if follows:
                follows = self._follow(until)
            left = until - time.monotonic()
            if left <= 0:
                # It may have ended in the last moment.
                if self.refresh().is_terminal:
                    break
                raise WaitTimeout(f"{self.id} is {self.status} after {timeout} s")
            if not follows:
                time.sleep(min(pause, left))
                pause = min(pause * 2, poll_interval)
        if self.status != JobStatus.COMPLETED:
            raise JobFailedError(self)
        return self

    def signal(self, payload: Any = None, correlation_key: str = "") -> Dict[str, Any]:
        """Answers what it waits for."""
        return self._client.signal(self.id, payload, correlation_key)

    def cancel(self) -> Dict[str, Any]:
        """Asks it to stop."""
        return self._client.cancel(self.id)

    def trace(self) -> "Trace":
        """What it did so far."""
        return self._client.trace(self.id)

    def _follow(self, until: float) -> bool:
        """Reads events until it ends or the time is over; false if that cannot be done."""
        path = self._client.job_path(self.id) + "/events"
        try:
            stream = self._client.wire.stream(path, {}, {})
        except (DormouseError, OSError):
            return False
        try:
            for message in messages(stream.lines(until)):
                if message.event in _END_EVENTS:
                    return True
        except TimeoutError:
            return True
        except Unreachable:
            return False
        finally:
            stream.close()
        # It ended without an end: looking is surer.
        return False


@dataclass(frozen=True)
class Step:
    """One effect of a job."""

    name: str
    status: str
    duration_ms: int
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getattr__(self, name: str) -> Any:
        # The rest of its members, under their own names: queue_ms, node_id, attempts…
        try:
            return self.__dict__["raw"][name]
        except KeyError:
            raise AttributeError(name) from None


class Trace:
    """What a job did, step by step."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw: Dict[str, Any] = dict(raw)
        self.steps: List[Step] = [
            Step(step["name"], step["status"], step["duration_ms"], step)
            for step in self.raw.get("steps", ())
        ]

    @property
    def status(self) -> Union[JobStatus, str]:
        """Where the job stands."""
        return read_status(self.raw.get("status"))


def read_status(text: Any) -> Union[JobStatus, str]:
    """The status of a word, or the word."""
    try:
        return JobStatus(text)
    except ValueError:
        return str(text)


