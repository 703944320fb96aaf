"""Dormouse from Python: run durable processes, and work for them.

``Client`` asks a daemon; ``Worker`` executes tasks. Only the standard library is needed.
"""

from .attempt import Attempt, Cancelled, Final, NotBegun, Stopped, Unknown
from .client import AetherisClient, Client
from .jobs import Job, JobFailedError, JobStatus, Step, Trace, WaitTimeout
from .outbox import WorkerRuns
from .problems import Conflict, DormouseError, NotFound, Problem, Unreachable
from .runs import Event
from .tasks import Claimed, Task
from .worker import Worker

__version__ = "0.1.0"

__all__ = [
    "AetherisClient",
    "Attempt",
    "Cancelled",
    "Claimed",
    "Client",
    "Conflict",
    "DormouseError",
    "Event",
    "Final",
    "Job",
    "JobFailedError",
    "JobStatus",
    "NotBegun",
    "NotFound",
    "Problem",
    "Step",
    "Stopped",
    "Task",
    "Trace",
    "Unknown",
    "Unreachable",
    "WaitTimeout",
    "Worker",
    "WorkerRuns",
]
