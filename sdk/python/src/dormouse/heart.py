"""The heart of a worker: one thread that keeps the leases of all its attempts.

May not execute or post. Invariant: an attempt that the daemon wants stopped is told so once, and
a daemon that cannot be reached stops nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Dict, List, Mapping

from .attempt import Attempt
from .outbox import Key, key_of
from .problems import DormouseError
from .tasks import Tasks

#: Most leases of one request.
BEAT_MAX = 256
#: Pause after a beat that did not reach the daemon, in seconds, and how long one may take.
BEAT_AGAIN, BEAT_TIMEOUT = 1.0, 10.0
#: Statuses of problems that say: another has it, or nobody needs it any more.
_OVER = (404, 409)

_log = logging.getLogger("dormouse.worker")


class Heart:
    """Beats for attempts from ``add`` to ``remove``."""

    def __init__(self, tasks: Tasks, worker: str) -> None:
        self._tasks = tasks
        self._worker = worker
        self._due: Dict[Key, float] = {}
        self._attempts: Dict[Key, Attempt] = {}
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, without waiting for a beat under way."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def add(self, attempt: Attempt) -> None:
        """Keeps the lease of an attempt."""
        with self._changed:
            key = key_of(attempt.task)
            self._attempts[key] = attempt
            self._due[key] = time.monotonic() + attempt.task.heartbeat_every
            self._changed.notify()

    def remove(self, attempt: Attempt) -> None:
        """Lets it go."""
        with self._changed:
            key = key_of(attempt.task)
            self._attempts.pop(key, None)
            self._due.pop(key, None)

    def _run(self) -> None:
        while True:
            due = self._wait()
            if not due:
                return
            for first in range(0, len(due), BEAT_MAX):
                self._beat(due[first : first + BEAT_MAX])

    def _wait(self) -> List[Attempt]:
        """Those whose lease is to be renewed now; none when it is over."""
        with self._changed:
            while not self._over:
                now = time.monotonic()
                due = [self._attempts[key] for key, at in self._due.items() if at <= now]
                if due:
                    return due
                self._changed.wait(min(self._due.values()) - now if self._due else None)
        return []

    def _beat(self, due: List[Attempt]) -> None:
        timeout = min(BEAT_TIMEOUT, min(attempt.task.ttl for attempt in due))
        try:
            answers = self._tasks.heartbeat_all(
                self._worker, [attempt.task for attempt in due], timeout=timeout
            )
        except DormouseError as failed:
            # Whether the lease lapses is the daemon's to say; a late outcome is welcome.
            _log.warning("no heartbeat: %s", failed)
            self._schedule(due, BEAT_AGAIN)
            return
        told = {(answer["runId"], answer["effectId"]): answer for answer in answers}
        for attempt in due:
            answer = told.get((attempt.task.run_id, attempt.task.effect_id), {})
            self.hear(attempt, answer)
        self._schedule(due, None)

    def hear(self, attempt: Attempt, answer: Mapping[str, Any]) -> None:
        """Does what an answer to a heartbeat says."""
        problem = answer.get("problem") or answer
        if problem.get("status") in _OVER:
            attempt.tell("stop", str(problem.get("detail") or problem.get("code")))
            self.remove(attempt)
        elif answer.get("directive") in ("cancel", "stop"):
            attempt.tell(answer["directive"], answer.get("reason"))

    def _schedule(self, attempts: List[Attempt], pause: "float | None") -> None:
        with self._changed:
            now = time.monotonic()
            for attempt in attempts:
                key = key_of(attempt.task)
                if key in self._due:
                    every = attempt.task.heartbeat_every
                    self._due[key] = now + (every if pause is None else min(pause, every))
