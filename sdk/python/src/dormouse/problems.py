"""What can go wrong between a program and its daemon.

May not know requests. Invariant: whoever catches one of these learns from its class and its
members what to do: mend the request, repeat it, or give up; never from its text.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Optional


class DormouseError(Exception):
    """Everything that this package raises, but what stops a task's code."""


class Unreachable(DormouseError):
    """No answer came. If ``sent``, the daemon may have done what was asked."""

    def __init__(self, what: str, sent: bool) -> None:
        super().__init__(what)
        self.sent = sent


class Problem(DormouseError):
    """The daemon answered that it did not do it.

    ``code`` is stable (``dormouse explain CODE``), ``hint`` is the next command, ``members`` has
    the whole answer, such as ``currentEpoch`` of a stale lease.
    """

    def __init__(self, status: int, members: Dict[str, Any], after: Optional[float] = None) -> None:
        self.status = status
        self.members = members
        self.code = str(members.get("code") or f"http_{status}")
        self.detail = str(members.get("detail") or members.get("error") or "")
        self.hint: Optional[str] = members.get("hint")
        self.retryable = bool(members.get("retryable", status in (429, 502, 503, 504)))
        self.run_id: Optional[str] = members.get("runId")
        self.effect_id: Optional[str] = members.get("effectId")
        self.retry_after = after
        super().__init__(f"{self.code}: {self.detail}" if self.detail else self.code)

    @property
    def nothing_done(self) -> bool:
        """Whether it is known that the daemon changed nothing."""
        return self.code != "unknown_outcome" and self.status not in (500, 502, 504)


class NotFound(Problem):
    """There is no such run, effect or agent."""


class Conflict(Problem):
    """Something stands already: a lease, an outcome, an end."""


def read_problem(status: int, body: bytes, after: Optional[str]) -> Problem:
    """The problem that an answer is, whatever it looks like."""
    try:
        members = json.loads(body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {"detail": body[:500].decode("utf-8", "replace")}
    kind = {404: NotFound, 409: Conflict}.get(status, Problem)
    seconds = float(after) if after is not None and after.isdecimal() else None
    return kind(status, members, seconds)
