"""The names of Aetheris' own Python client, given by dormouse.

May not have a thing of its own. Invariant: whatever is here is one of ``dormouse``.
"""

from dormouse import AetherisClient, Job, JobFailedError, JobStatus
from dormouse import DormouseError as AetherisError
from dormouse import WaitTimeout as TimeoutError  # noqa: A004  # The name that scripts import.

__all__ = ["AetherisClient", "AetherisError", "Job", "JobFailedError", "JobStatus", "TimeoutError"]
