"""Where some scripts import from.

May not have a thing of its own. Invariant: it has what the package has.
"""

from . import AetherisClient, AetherisError, Job, JobFailedError, JobStatus, TimeoutError

__all__ = ["AetherisClient", "AetherisError", "Job", "JobFailedError", "JobStatus", "TimeoutError"]
