"""Tasks: what runs ask of the outside, and the way in for those who do it.

May not execute anything. Invariant: whatever an attempt says carries the epoch of its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from .runs import ABSENT, pages
from .wire import Body, Line, Wire, encode, given, segment

#: How much longer than a claim waits its answer may take, in seconds.
CLAIM_SLACK = 10.0
#: Longer values are uploaded before their result, in bytes.
VALUE_SENT_MAX = 1024 * 1024


@dataclass(frozen=True)
class Task:
    """One attempt of an effect, as its claimer got it."""

    run_id: str
    effect_id: str
    kind: str
    epoch: int
    attempt: int
    #: Equal over all attempts of the effect, whoever makes them: give it to the outside.
    idempotency_key: str
    definition: Any
    args: Any
    title: Optional[str] = None
    labels: Sequence[str] = ()
    ttl: float = 60.0
    heartbeat_every: float = 20.0
    #: RFC 3339; nothing if the attempt has no limit but its lease.
    deadline: Optional[str] = None
    previous_attempts: Sequence[Mapping[str, Any]] = ()
    traceparent: Optional[str] = None
    #: Lets its bearer speak for this attempt, and for nothing else.
    task_token: Optional[str] = field(default=None, repr=False)
    #: Where the arguments are, if they were too long for the claim; ``Tasks.whole`` gets them.
    args_link: Optional[str] = None
    #: The whole answer.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Task":
        """Of an entry of a claim's answer."""
        ttl_ms = told.get("ttlMs", 60_000)
        return cls(
            run_id=told["runId"],
            effect_id=told["effectId"],
            kind=told["kind"],
            epoch=told["epoch"],
            attempt=told.get("attempt", 1),
            idempotency_key=told["idempotencyKey"],
            definition=told.get("definition"),
            args=told.get("args"),
            title=told.get("title"),
            labels=tuple(told.get("labels") or ()),
            ttl=ttl_ms / 1000,
            heartbeat_every=told.get("heartbeatEveryMs", ttl_ms / 3) / 1000,
            deadline=told.get("deadline"),
            previous_attempts=tuple(told.get("previousAttempts") or ()),
            traceparent=told.get("traceparent"),
            task_token=told.get("taskToken"),
            args_link=told.get("argsLink"),
            raw=told,
        )


@dataclass(frozen=True)
class Claimed:
    """The answer to a claim."""

    tasks: Sequence[Task]
    #: The claim's id was used before, and nothing that it brought is still to be done.
    spent: bool


class Tasks:
    """The tasks of a daemon's runs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(
        self,
        *,
        run_id: Optional[str] = None,
        kind: Optional[str] = None,
        state: Optional[str] = None,
        worker: Optional[str] = None,
        page_size: int = 200,
    ) -> Iterator[Dict[str, Any]]:
        """What open runs wait for; pages are read as they are needed."""
        query = given(run=run_id, kind=kind, state=state, worker=worker, pageSize=page_size)
        return pages(self._wire, "/v1/tasks", query, "tasks")

    def of_run(self, run_id: str, *, pending: bool = False) -> List[Dict[str, Any]]:
        """All effects of a run, in order of request."""
        path = f"/v1/runs/{segment(run_id)}/tasks"
        return list(pages(self._wire, path, given(pending=pending or None), "tasks"))

    def get(self, run_id: str, effect_id: str) -> Dict[str, Any]:
        """One effect, with its definition, its arguments and its outcome."""
        answer: Dict[str, Any] = self._wire.ask("GET", _task(run_id, effect_id), repeatable=True)
        return answer

    def claim(
        self,
        worker: str,
        kinds: Sequence[str],
        *,
        agents: Sequence[str] = (),
        offers: Sequence[str] = (),
        runs: Sequence[str] = (),
        most: int = 1,
        wait: float = 20.0,
        ttl: float = 60.0,
        claim_id: Optional[str] = None,
        line: Optional[Line] = None,
    ) -> Claimed:
        """Starts up to ``most`` tasks of these kinds, and waits for them if there are none yet.

        With a ``claim_id`` a claim whose answer was lost may be repeated: it brings the same
        tasks with the same epochs. Whoever gives none repeats nothing.
        """
        body = given(
            worker=worker,
            kinds=list(kinds),
            agents=list(agents) or None,
            offers=list(offers) or None,
            runs=list(runs) or None,
            max=most,
            waitMs=_millis(wait),
            ttlMs=_millis(ttl),
            claimId=claim_id,
        )
        answer = self._wire.ask(
            "POST",
            "/v1/tasks/claim",
            body=body,
            repeatable=claim_id is not None,
            timeout=wait + CLAIM_SLACK,
            line=line,
        )
        return Claimed([Task.read(told) for told in answer["tasks"]], bool(answer.get("spent")))

    def claim_one(
        self,
        run_id: str,
        effect_id: str,
        worker: str,
        *,
        ttl: float = 60.0,
        claim_id: Optional[str] = None,
    ) -> Task:
        """Starts this very task."""
        body = given(worker=worker, ttlMs=_millis(ttl), claimId=claim_id)
        told = self._post(run_id, effect_id, "claim", body, repeatable=claim_id is not None)
        return Task.read(told)

    def whole(self, task: Task) -> Task:
        """The same task with its arguments, where the claim only said where they are."""
        if task.args_link is None:
            return task
        args = self._wire.ask("GET", task.args_link, repeatable=True)
        return replace(task, args=args, args_link=None)

    def heartbeat(
        self,
        run_id: str,
        effect_id: str,
        epoch: int,
        *,
        worker: Optional[str] = None,
        ttl: Optional[float] = None,
        percent: Optional[float] = None,
        label: Optional[str] = None,
    ) -> Dict[str, Any]:
        """Keeps a lease; ``directive`` of the answer says whether to go on."""
        progress = given(percent=percent, label=label)
        ttl_ms = None if ttl is None else _millis(ttl)
        body = given(epoch=epoch, worker=worker, ttlMs=ttl_ms, progress=progress or None)
        return self._post(run_id, effect_id, "heartbeat", body)

    def heartbeat_all(
        self, worker: str, tasks: Sequence[Task], *, timeout: Optional[float] = None
    ) -> List[Dict[str, Any]]:
        """Keeps many leases; one answer each, a heartbeat's or a problem."""
        leases = [{"runId": t.run_id, "effectId": t.effect_id, "epoch": t.epoch} for t in tasks]
        answer = self._wire.ask(
            "POST",
            "/v1/tasks/heartbeat",
            body={"worker": worker, "tasks": leases},
            repeatable=True,
            timeout=timeout,
            tries=1,
        )
        answers: List[Dict[str, Any]] = answer["tasks"]
        return answers

    def release(
        self, run_id: str, effect_id: str, epoch: int, *, began: bool, reason: Optional[str] = None
    ) -> Dict[str, Any]:
        """Gives a task back. ``began`` says whether something outside may have happened."""
        body = given(epoch=epoch, began=began, reason=reason)
        return self._post(run_id, effect_id, "release", body)

    def post(
        self,
        run_id: str,
        effect_id: str,
        status: str,
        value: Any = ABSENT,
        *,
        error: Optional[Mapping[str, Any]] = None,
        epoch: Optional[int] = None,
        stdout: Optional[str] = None,
        stderr: Optional[str] = None,
        started_at: Optional[str] = None,
        finished_at: Optional[str] = None,
        metadata: Any = ABSENT,
        invocation_key: Optional[str] = None,
    ) -> Dict[str, Any]:
        """Says how a task ended: ``ok``, ``error`` or ``unknown``."""
        body = given(
            status=status,
            error=error,
            epoch=epoch,
            stdout=stdout,
            stderr=stderr,
            startedAt=started_at,
            finishedAt=finished_at,
            invocationKey=invocation_key,
        )
        if value is not ABSENT:
            body["value"] = value
        if metadata is not ABSENT:
            body["metadata"] = metadata
        return self.post_body(run_id, effect_id, body)

    def post_body(self, run_id: str, effect_id: str, body: Body) -> Dict[str, Any]:
        """The same, with the request as it is sent. A long value goes ahead of it."""
        if "value" in body:
            content = encode(body["value"])
            if content is not None and len(content) > VALUE_SENT_MAX:
                rest = {name: value for name, value in body.items() if name != "value"}
                blob = self.upload(run_id, effect_id, content, epoch=body.get("epoch"))
                body = {**rest, "valueBlob": blob}
        return self._post(run_id, effect_id, "result", body)

    def upload(
        self, run_id: str, effect_id: str, content: bytes, *, epoch: Optional[int] = None
    ) -> Dict[str, Any]:
        """Uploads what a result names as ``valueBlob``, ``stdoutBlob`` or ``stderrBlob``."""
        path = f"{_task(run_id, effect_id)}/blobs"
        blob: Dict[str, Any] = self._wire.ask(
            "PUT", path, query={"epoch": epoch}, content=content, repeatable=True
        )
        return blob

    def decide(
        self,
        run_id: str,
        effect_id: str,
        decision: str,
        *,
        epoch: int,
        reason: str,
        value: Any = ABSENT,
        error: Optional[Mapping[str, Any]] = None,
        evidence: Any = ABSENT,
        force: bool = False,
    ) -> Dict[str, Any]:
        """Says what becomes of an uncertain effect: ``retry``, ``done``, ``failed``, ``probe``."""
        body = given(
            decision=decision, epoch=epoch, reason=reason, error=error, force=force or None
        )
        if value is not ABSENT:
            body["value"] = value
        if evidence is not ABSENT:
            body["evidence"] = evidence
        return self._post(run_id, effect_id, "decide", body)

    def cancel(
        self, run_id: str, effect_id: str, reason: Optional[str] = None, *, abandon: bool = False
    ) -> Dict[str, Any]:
        """Gives an effect up; a started one only with ``abandon``."""
        body = given(reason=reason, abandon=abandon or None)
        return self._post(run_id, effect_id, "cancel", body)

    def retry_now(self, run_id: str, effect_id: str) -> Dict[str, Any]:
        """Lets the next attempt begin before its time."""
        return self._post(run_id, effect_id, "retry-now", {})

    def _post(
        self, run_id: str, effect_id: str, verb: str, body: Body, repeatable: bool = True
    ) -> Dict[str, Any]:
        path = f"{_task(run_id, effect_id)}/{verb}"
        answer: Dict[str, Any] = self._wire.ask("POST", path, body=body, repeatable=repeatable)
        return answer


class Breakpoints:
    """What waits for a person."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(self, run_id: Optional[str] = None) -> List[Dict[str, Any]]:
        """All that wait, or those of one run."""
        answer = self._wire.ask("GET", "/v1/breakpoints", query={"run": run_id}, repeatable=True)
        waiting: List[Dict[str, Any]] = answer["breakpoints"]
        return waiting

    def approve(
        self,
        run_id: str,
        effect_id: str,
        *,
        response: Optional[str] = None,
        feedback: Optional[str] = None,
        option: Optional[str] = None,
    ) -> Dict[str, Any]:
        """Approves."""
        return self._answer(run_id, effect_id, "approve", response, feedback, option)

    def reject(
        self,
        run_id: str,
        effect_id: str,
        *,
        response: Optional[str] = None,
        feedback: Optional[str] = None,
        option: Optional[str] = None,
    ) -> Dict[str, Any]:
        """Rejects."""
        return self._answer(run_id, effect_id, "reject", response, feedback, option)

    def _answer(
        self,
        run_id: str,
        effect_id: str,
        verb: str,
        response: Optional[str],
        feedback: Optional[str],
        option: Optional[str],
    ) -> Dict[str, Any]:
        path = f"/v1/runs/{segment(run_id)}/breakpoints/{segment(effect_id)}/{verb}"
        body = given(response=response, feedback=feedback, option=option)
        answer: Dict[str, Any] = self._wire.ask("POST", path, body=body, repeatable=True)
        return answer


def _task(run_id: str, effect_id: str) -> str:
    return f"/v1/runs/{segment(run_id)}/tasks/{segment(effect_id)}"


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
