"""A daemon, as a program sees it.

May not hold a connection. Invariant: making a client sends nothing.
"""

from __future__ import annotations

import uuid
from typing import Any, Dict, List, Mapping, Optional

from .jobs import Job, Trace
from .problems import DormouseError, Problem, Unreachable
from .runs import Runs
from .tasks import Breakpoints, Tasks
from .wire import Path, Wire, given, segment

#: Members of a trace that come in pages.
_PAGED = ("steps", "timeline", "node_durations", "timeline_segments")
#: Entries of one page.
PAGE_MAX = 100


class Client:
    """Asks a daemon, at a URL, at ``unix:///path/of/its/socket``, or of a runs root.

    ``runs``, ``tasks`` and ``breakpoints`` are its own surface; the methods here are that for
    agents: a message makes a job.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        timeout: float = 30.0,
        *,
        runs_root: Optional[Path] = None,
    ) -> None:
        self.wire = Wire(url, token, timeout, runs_root)
        self.runs = Runs(self.wire)
        self.tasks = Tasks(self.wire)
        self.breakpoints = Breakpoints(self.wire)

    def __repr__(self) -> str:
        return f"Client({self.wire.url!r})"

    def version(self) -> Dict[str, Any]:
        """Version, formats and features of the daemon."""
        answer: Dict[str, Any] = self.wire.ask("GET", "/v1/version", repeatable=True)
        return answer

    def ready(self) -> bool:
        """Whether the daemon takes work."""
        try:
            self.wire.ask("GET", "/v1/health/ready", repeatable=True, tries=1)
        except (Problem, Unreachable):
            return False
        return True

    def submit(
        self,
        agent: str,
        message: Any,
        idempotency_key: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        priority: Optional[int] = None,
    ) -> Job:
        """Gives a message to an agent. A text is its goal; anything else JSON has is its input."""
        body = given(metadata=metadata, priority=priority)
        body["message" if isinstance(message, str) else "input"] = message
        answer = self.wire.ask(
            "POST",
            f"/api/agents/{segment(agent)}/message",
            body=body,
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
            repeatable=True,
        )
        submitted = {"agent_id": agent, **answer, "status": "pending"}
        if isinstance(message, str):
            submitted.setdefault("goal", message)
        if not any(submitted.get(name) for name in ("id", "job_id", "run_id")):
            raise DormouseError(f"the answer names no job: {answer!r}")
        return Job(self, submitted)

    def get(self, job_id: str) -> Job:
        """A job."""
        return Job(self, self.wire.ask("GET", self.job_path(job_id), repeatable=True))

    def list(self, agent: str, status: Optional[str] = None, limit: int = 20) -> List[Job]:
        """Jobs of an agent, at most ``limit``."""
        path = f"/api/agents/{segment(agent)}/jobs"
        found: List[Job] = []
        cursor: Optional[str] = None
        while len(found) < limit:
            size = min(limit - len(found), PAGE_MAX)
            query = given(status=status, limit=size, cursor=cursor)
            page = self.wire.ask("GET", path, query=query, repeatable=True)
            found += [Job(self, {"agent_id": agent, **raw}) for raw in page["jobs"]]
            cursor = page.get("next_cursor")
            if not cursor:
                break
        return found[:limit]

    def trace(self, job_id: str) -> Trace:
        """What a job did so far, all pages of it."""
        whole: Dict[str, Any] = {}
        cursor: Optional[str] = None
        while True:
            query = given(cursor=cursor)
            path = self.job_path(job_id) + "/trace"
            page = self.wire.ask("GET", path, query=query, repeatable=True)
            for name in _PAGED:
                whole.setdefault(name, []).extend(page.get(name) or ())
            whole.update((name, part) for name, part in page.items() if name not in _PAGED)
            cursor = page.get("next_cursor")
            if not cursor:
                return Trace(whole)

    def signal(self, job_id: str, payload: Any = None, correlation_key: str = "") -> Dict[str, Any]:
        """Answers what a job waits for; without a key, the only thing that it waits for."""
        body = given(correlation_key=correlation_key or None, payload=payload)
        # Without a key a second one might answer what comes next.
        return self._act(job_id, "signal", body, repeatable=bool(correlation_key))

    def cancel(self, job_id: str) -> Dict[str, Any]:
        """Asks a job to stop."""
        return self._act(job_id, "stop", {})

    def health(self) -> Dict[str, Any]:
        """What the daemon says of itself. Raises if it takes no work."""
        answer: Dict[str, Any] = self.wire.ask("GET", "/api/health", repeatable=True)
        return answer

    def job_path(self, job_id: str) -> str:
        """Where a job is."""
        return "/api/jobs/" + segment(job_id)

    def _act(
        self, job_id: str, verb: str, body: Dict[str, Any], repeatable: bool = True
    ) -> Dict[str, Any]:
        path = f"{self.job_path(job_id)}/{verb}"
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        answer: Dict[str, Any] = self.wire.ask(
            "POST", path, body=body, headers=headers, repeatable=repeatable
        )
        return answer


class AetherisClient(Client):
    """The same under the names of Aetheris' own client, for scripts that were written for it."""

    def __init__(
        self,
        base_url: str = "http://localhost:8080",
        *,
        token: Optional[str] = None,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(base_url.rstrip("/"), token, timeout)

    def run(self, agent_id: str, message: str, *, idempotency_key: Optional[str] = None) -> Job:
        """``submit``."""
        return self.submit(agent_id, message, idempotency_key)

    def get_job(self, job_id: str) -> Job:
        """``get``."""
        return self.get(job_id)

    def signal_job(self, job_id: str, payload: Any, *, correlation_key: str = "") -> None:
        """``signal``."""
        self.signal(job_id, payload, correlation_key)

    def list_jobs(
        self, agent_id: str, *, status: Optional[str] = None, limit: int = 20
    ) -> List[Job]:
        """``list``."""
        return self.list(agent_id, status, limit)

    def health(self) -> bool:  # type: ignore[override]  # Scripts ask it as a question.
        """Whether the daemon takes work."""
        try:
            super().health()
        except (Problem, Unreachable):
            return False
        return True
