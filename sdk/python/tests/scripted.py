"""A daemon that fails as it is told to: the surface for workers and that for agents, in memory.

May not be taken for the real one where that can be had. Invariant: what it does not refuse it does
as the contract says: epochs rise, a claim's id brings the same tasks, a second post is a repeat.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit

#: No test waits longer for something that is to happen, in seconds.
PATIENCE = 20.0

Answer = Tuple[int, Dict[str, Any]]


class Effect:
    """What a run asks for."""

    def __init__(self, run_id: str, effect_id: str, kind: str, args: Any) -> None:
        self.run_id, self.effect_id, self.kind, self.args = run_id, effect_id, kind, args
        self.state, self.epoch = "requested", 0
        self.worker: Optional[str] = None
        self.claim_id: Optional[str] = None
        self.directive = "continue"
        self.beats = 0
        self.progress: Any = None
        self.releases: List[Dict[str, Any]] = []
        self.posts: List[Dict[str, Any]] = []
        self.stale: List[Dict[str, Any]] = []
        #: Arguments are told by a link.
        self.is_long = False

    def told(self, ttl_ms: int) -> Dict[str, Any]:
        link = f"/v1/runs/{self.run_id}/tasks/{self.effect_id}/blobs/b3:0"
        long = {"args": {"$blob": "b3:0", "bytes": 9}, "argsLink": link} if self.is_long else {}
        return {**self._told(ttl_ms), **long}

    def _told(self, ttl_ms: int) -> Dict[str, Any]:
        return {
            "runId": self.run_id, "effectId": self.effect_id, "kind": self.kind,
            "title": None, "labels": [], "definition": {"kind": self.kind}, "args": self.args,
            "epoch": self.epoch, "attempt": self.epoch, "ttlMs": ttl_ms,
            "idempotencyKey": f"{self.run_id}/{self.effect_id}",
            "heartbeatEveryMs": ttl_ms // 3, "previousAttempts": [],
        }


class Scripted:
    """The daemon. ``plan`` says what becomes of the next requests whose path ends in a word:
    ``drop`` (not done, no answer), ``lose`` (done, no answer), or an answer of its own."""

    def __init__(self) -> None:
        self.effects: Dict[Tuple[str, str], Effect] = {}
        self.requests: List[Tuple[str, str, Any]] = []
        self.headers: List[Dict[str, str]] = []
        self.jobs: Dict[str, Deque[Dict[str, Any]]] = {}
        self.streams: Dict[str, Deque[bytes]] = {}
        self.pages: Dict[str, Deque[Dict[str, Any]]] = {}
        self._plans: Dict[str, Deque[Any]] = {}
        self.changed = threading.Condition()
        self._over = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        with self.changed:
            self._over = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    # What tests say.

    def offer(
        self, kind: str, args: Any = None, run_id: str = "r1", *, is_long: bool = False
    ) -> Effect:
        """A run asks for something."""
        with self.changed:
            effect_id = f"e{len(self.effects) + 1:04}"
            effect = self.effects[run_id, effect_id] = Effect(run_id, effect_id, kind, args)
            effect.is_long = is_long
            self.changed.notify_all()
        return effect

    def plan(self, ending: str, *actions: Any) -> None:
        self._plans.setdefault(ending, deque()).extend(actions)

    def until(self, done: Callable[[], Any]) -> None:
        """Waits until something is so."""
        with self.changed:
            assert self.changed.wait_for(done, PATIENCE), (self.requests, vars(self))

    def asked(self, ending: str) -> List[Any]:
        """The bodies of all requests whose path ends in a word."""
        return [body for _, path, body in self.requests if path.endswith(ending)]

    # What clients ask.

    def answer(self, method: str, path: str, query: Dict[str, str], body: Any) -> Optional[Answer]:
        """The answer; nothing if the connection is to be cut."""
        with self.changed:
            self.requests.append((method, path, body))
            plan = next((p for end, p in self._plans.items() if p and path.endswith(end)), None)
            action = plan.popleft() if plan else None
            self.changed.notify_all()
        if action == "drop":
            return None
        if isinstance(action, tuple):
            return action[0], action[1]
        answer = self._route(method, path, query, body)
        with self.changed:
            self.changed.notify_all()
        return None if action == "lose" else answer

    def _route(self, method: str, path: str, query: Dict[str, str], body: Any) -> Answer:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "api":
            return self._compat(method, parts[1:], query, body)
        if parts[1:] == ["tasks", "claim"]:
            return self._claim(body)
        with self.changed:
            if parts[1:] == ["tasks", "heartbeat"]:
                return 200, {"tasks": [self._beat(lease) for lease in body["tasks"]]}
            if parts[1:] == ["tasks"]:
                held = [e for e in self.effects.values()
                        if e.worker == query["worker"] and e.state == query["state"]]
                return 200, {"tasks": [e.told(60_000) for e in held]}
            if len(parts) == 7 and parts[5] == "blobs":
                return 200, self.effects[parts[2], parts[4]].args
            if len(parts) == 6 and parts[1] == "runs":
                effect = self.effects.get((parts[2], parts[4]))
                if effect is None:
                    return problem(404, "effect_unknown")
                return self._attempt(effect, parts[5], body)
        return problem(404, "no_route")

    def _claim(self, body: Any) -> Answer:
        until = time.monotonic() + body["waitMs"] / 1000
        claim_id = body.get("claimId")
        with self.changed:
            while True:
                of_claim = [e for e in self.effects.values() if claim_id and e.claim_id == claim_id]
                if of_claim:
                    again = [e for e in of_claim if e.state == "started"]
                    told = [e.told(body["ttlMs"]) for e in again]
                    return 200, {"tasks": told, "spent": not again}
                ready = [e for e in self.effects.values()
                         if e.state == "requested" and e.kind in body["kinds"]][: body["max"]]
                left = until - time.monotonic()
                if ready or left <= 0 or self._over:
                    for effect in ready:
                        effect.state, effect.epoch = "started", effect.epoch + 1
                        effect.worker, effect.claim_id = body["worker"], claim_id
                    return 200, {"tasks": [e.told(body["ttlMs"]) for e in ready]}
                self.changed.wait(left)

    def _beat(self, lease: Any) -> Dict[str, Any]:
        effect = self.effects[lease["runId"], lease["effectId"]]
        names = {"runId": effect.run_id, "effectId": effect.effect_id}
        refusal = self._fence(effect, lease["epoch"])
        if refusal is not None:
            return {**names, "problem": refusal[1]}
        effect.beats += 1
        return {**names, "state": effect.state, "directive": effect.directive, "ttlMs": 60_000}

    def _attempt(self, effect: Effect, verb: str, body: Any) -> Answer:
        if verb == "heartbeat":
            effect.progress = body.get("progress")
            told = self._beat({"runId": effect.run_id, "effectId": effect.effect_id, **body})
            return (409, told["problem"]) if "problem" in told else (200, told)
        if verb == "result" and effect.state == "ended":
            if effect.posts[-1] == body:
                return 200, {"state": effect.state, "seq": 9, "repeat": True}
        refusal = self._fence(effect, body["epoch"])
        if refusal is not None:
            effect.stale.append(body)
            return refusal
        if verb == "release":
            effect.state = "requested"
            effect.releases.append(body)
        else:
            effect.posts.append(body)
            effect.state = "uncertain" if body["status"] == "unknown" else "ended"
        return 200, {"state": effect.state, "seq": 9, "repeat": False}

    def _fence(self, effect: Effect, epoch: int) -> Optional[Answer]:
        if epoch != effect.epoch:
            return problem(409, "stale_lease", currentEpoch=effect.epoch)
        if effect.state == "ended":
            return problem(409, "effect_ended")
        if effect.state == "requested":
            return problem(409, "attempt_closed")
        return None

    def _compat(self, method: str, parts: List[str], query: Dict[str, str], body: Any) -> Answer:
        if parts == ["health"]:
            return 200, {"status": "ok", "service": "dormouse", "ready": True}
        if parts[0] == "agents" and parts[2] == "message":
            return 202, {"status": "accepted", "agent_id": parts[1], "job_id": "j1",
                         "run_id": "j1", "id": "j1"}
        name = "/".join(parts)
        if name in self.pages:
            pages = self.pages[name]
            return 200, pages.popleft() if len(pages) > 1 else pages[0]
        if parts[0] == "jobs" and len(parts) == 2 and parts[1] in self.jobs:
            looks = self.jobs[parts[1]]
            return 200, looks.popleft() if len(looks) > 1 else looks[0]
        if parts[0] == "jobs" and method == "POST":
            return 200, {"job_id": parts[1], "status": "cancelling"}
        return 404, {"error": "nothing there", "code": "not_found"}


def problem(status: int, code: str, **members: Any) -> Answer:
    """A problem, as it is answered."""
    return status, {"type": f"urn:dormouse:problem:{code}", "title": code, "status": status,
                    "code": code, "detail": f"it is {code}", "retryable": status == 503,
                    "next": [], **members}


def _handler(scripted: Scripted) -> type:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            target = urlsplit(self.path)
            scripted.headers.append({k.lower(): v for k, v in self.headers.items()})
            if "text/event-stream" in self.headers.get("Accept", ""):
                return self._stream(target.path)
            query = dict(parse_qsl(target.query))
            answer = scripted.answer(
                self.command, target.path, query, json.loads(sent) if sent else None
            )
            self.close_connection = True
            if answer is None:
                return None
            body = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            kind = "application/problem+json" if answer[0] >= 400 else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                pass  # Its client is gone.
            return None

        def _stream(self, path: str) -> None:
            self.close_connection = True
            streams = scripted.streams.get(path)
            if not streams:
                return self.send_error(404)
            scripted.requests.append(("STREAM", self.path, None))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(streams.popleft())
            return None

        do_GET = do_POST = _serve

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
