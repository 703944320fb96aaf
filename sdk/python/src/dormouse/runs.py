"""Runs: make, look, follow, steer.

May not execute anything. Invariant: every call may be repeated by the wire without being done
twice, because it carries a key, or because doing it twice is doing it once.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from .problems import Problem, Unreachable
from .sse import messages
from .wire import PAUSE_MAX, Body, Path, Wire, backoff, given, segment

#: How long a follower looks for a daemon that is gone, in seconds.
FOLLOW_PATIENCE = 60.0


class _Absent:
    """Stands for a value that was not given; ``None`` is one that was."""


ABSENT: Any = _Absent()


@dataclass(frozen=True)
class Event:
    """One record of a journal."""

    seq: int
    type: str
    at: str
    data: Dict[str, Any]
    sum: str

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Event":
        """Of a stored line, or of an entry of a page."""
        at = record["at"] if "at" in record else record["recordedAt"]
        return cls(record["seq"], record["type"], at, record["data"], record["sum"])


class Runs:
    """The runs of a daemon."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(
        self,
        entry: Optional[Path] = None,
        inputs: Any = ABSENT,
        *,
        run_id: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        tags: Sequence[str] = (),
        process_id: Optional[str] = None,
        process_root: Optional[Path] = None,
        library_root: Optional[Path] = None,
        pins: Sequence[str] = (),
        cwd: Optional[Path] = None,
        non_interactive: bool = False,
    ) -> Dict[str, Any]:
        """Creates a run and lets it go on.

        ``entry`` is a module, as ``file.js`` or ``file.js#export``; without one the run is bare.
        Under the same key the same request makes one run: ``existed`` says that it was there.
        """
        key = idempotency_key or uuid.uuid4().hex
        body: Body = given(runId=run_id, cwd=_path(cwd), tags=list(tags) or None)
        if entry is not None:
            body["source"] = given(
                entry=_path(entry),
                processId=process_id,
                processRoot=_path(process_root),
                libraryRoot=_path(library_root),
                pins=list(pins) or None,
            )
        if inputs is not ABSENT:
            body["inputs"] = inputs
        if non_interactive:
            body["nonInteractive"] = True
        return self._ask("POST", "/v1/runs", body=body, headers={"Idempotency-Key": key})

    def get(self, run_id: str) -> Dict[str, Any]:
        """A run, with everything that it waits for."""
        return self._ask("GET", _run(run_id))

    def list(
        self,
        *,
        state: Optional[str] = None,
        process: Optional[str] = None,
        tag: Optional[str] = None,
        parent: Optional[str] = None,
        created_after: Optional[str] = None,
        created_before: Optional[str] = None,
        page_size: int = 200,
    ) -> Iterator[Dict[str, Any]]:
        """Runs, oldest first; pages are read as they are needed."""
        query = given(
            state=state,
            process=process,
            tag=tag,
            parent=parent,
            createdAfter=created_after,
            createdBefore=created_before,
            pageSize=page_size,
        )
        return pages(self._wire, "/v1/runs", query, "runs")

    def events(
        self, run_id: str, *, after: int = 0, types: Sequence[str] = (), page_size: int = 200
    ) -> Iterator[Event]:
        """The records of a run up to now."""
        while True:
            query = given(after=after, types=",".join(types) or None, pageSize=page_size)
            page = self._ask("GET", _run(run_id) + "/events", query=query)
            for record in page["events"]:
                yield Event.read(record)
            if page.get("nextAfter") is None:
                return
            after = page["nextAfter"]

    def follow(
        self, run_id: str, *, after: int = 0, patience: float = FOLLOW_PATIENCE
    ) -> Iterator[Event]:
        """The records of a run as they become durable, until it has ended.

        A stream that breaks is opened again where it broke off: no record is missed or told
        twice. Raises ``Unreachable`` when there is no daemon for ``patience`` seconds.
        """
        path, tried, lost_at = _run(run_id) + "/events", 0, time.monotonic()
        while True:
            try:
                stream = self._wire.stream(path, {"after": after}, {})
                try:
                    for message in messages(stream.lines()):
                        tried, lost_at = 0, time.monotonic()
                        if message.event == "end":
                            return
                        if message.event == "hello":
                            continue
                        event = Event.read(json.loads(message.data))
                        after = event.seq
                        yield event
                finally:
                    stream.close()
            except Unreachable:
                if time.monotonic() - lost_at >= patience:
                    raise
            except Problem as problem:
                if not problem.retryable or time.monotonic() - lost_at >= patience:
                    raise
            tried += 1
            time.sleep(backoff(tried, PAUSE_MAX))

    def iterate(self, run_id: str, *, timeout: Optional[float] = None) -> Dict[str, Any]:
        """Lets a run go on until it rests, and says where."""
        path = _run(run_id) + "/iterate"
        return self._ask("POST", path, body={}, timeout=timeout)

    def cancel(
        self, run_id: str, reason: Optional[str] = None, *, now: bool = False
    ) -> Dict[str, Any]:
        """Asks a run to stop; its process may clean up, unless ``now``."""
        body = given(reason=reason, now=now or None)
        return self._ask("POST", _run(run_id) + "/cancel", body=body)

    def pause(self, run_id: str) -> Dict[str, Any]:
        """Keeps a run from going on; posts and signals are still taken."""
        return self._ask("POST", _run(run_id) + "/pause", body={})

    def resume(self, run_id: str, reason: Optional[str] = None) -> Dict[str, Any]:
        """Lets a paused or held run go on."""
        return self._ask("POST", _run(run_id) + "/resume", body=given(reason=reason))

    def signal(
        self,
        run_id: str,
        name: str,
        payload: Any = ABSENT,
        *,
        correlation_key: Optional[str] = None,
        signal_id: Optional[str] = None,
    ) -> Dict[str, Any]:
        """Sends a signal, once: without an id it gets one, so that repeating it is safe."""
        body = given(name=name, correlationKey=correlation_key, signalId=signal_id or uuid.uuid4().hex)
        if payload is not ABSENT:
            body["payload"] = payload
        return self._ask("POST", _run(run_id) + "/signals", body=body)

    def _ask(self, method: str, path: str, **how: Any) -> Dict[str, Any]:
        answer: Dict[str, Any] = self._wire.ask(method, path, repeatable=True, **how)
        return answer


def pages(wire: Wire, path: str, query: Body, member: str) -> Iterator[Dict[str, Any]]:
    """All entries of a list, page by page."""
    while True:
        page = wire.ask("GET", path, query=query, repeatable=True)
        yield from page[member]
        if not page.get("nextPageToken"):
            return
        query = {**query, "pageToken": page["nextPageToken"]}


def _run(run_id: str) -> str:
    return "/v1/runs/" + segment(run_id)


def _path(path: Optional[Path]) -> Optional[str]:
    return None if path is None else os.path.abspath(os.path.expanduser(os.fspath(path)))
