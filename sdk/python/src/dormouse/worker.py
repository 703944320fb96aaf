"""A worker: claims tasks, calls functions for them, posts what came of it.

May not know how a request is made. Invariant: every task that it claims is posted, released, or
stands in its outbox, where the next worker of its name finds it.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar

from .attempt import Attempt, Function, Outcome, Release, Result, unknown
from .client import Client
from .heart import Heart
from .outbox import Entry, Key, Outbox, default_place, key_of
from .problems import Conflict, DormouseError, Problem, Unreachable
from .tasks import Task
from .wire import Line, Path as AnyPath, backoff

#: Most tasks of one claim.
CLAIM_MAX = 64
#: Longest pause between tries to reach the daemon, in seconds.
AGAIN_MAX = 5.0
#: How long functions that were told to stop may take for it, and posts after that, in seconds.
STOP_GRACE, LEAVE_GRACE = 10.0, 1.0
#: The token is not good for it; what is known waits for one that is.
_NOT_LET_IN = (401, 403)

_log = logging.getLogger("dormouse.worker")
_F = TypeVar("_F", bound=Callable[[Attempt], Any])


class Worker:
    """Executes tasks of some kinds.

    ``name`` tells it from other workers: it needs to be its own, and the same after a restart.
    ``concurrency`` tasks are executed at a time, each in a thread. A task whose worker says
    nothing for ``ttl`` seconds is uncertain. On SIGTERM and SIGINT it takes nothing more, and
    what it executes has ``grace`` seconds to end.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        name: str = "",
        kinds: Sequence[str] = (),
        *,
        token: Optional[str] = None,
        runs_root: Optional[AnyPath] = None,
        concurrency: int = 1,
        ttl: float = 60.0,
        wait: float = 20.0,
        offers: Sequence[str] = (),
        agents: Sequence[str] = (),
        runs: Sequence[str] = (),
        outbox: Optional[AnyPath] = None,
        grace: float = 30.0,
    ) -> None:
        if not name:
            raise DormouseError("a worker needs a name that is its own and stays the same")
        self.name = name
        self.client = Client(url, token, runs_root=runs_root)
        self._kinds = tuple(kinds)
        self._functions: Dict[str, Function] = {}
        self._concurrency = concurrency
        self._ttl, self._wait, self._grace = ttl, wait, grace
        self._wanted: Dict[str, Sequence[str]] = {"offers": offers, "agents": agents, "runs": runs}
        place = Path(outbox) if outbox is not None else default_place(name, self.client.wire.url)
        self._outbox = Outbox(place)
        self._heart = Heart(self.client.tasks, name)
        self._line = Line()
        self._stopping = threading.Event()
        # Set when even outcomes are left to the outbox.
        self._leaving = threading.Event()
        self._changed = threading.Condition()
        self._running: Dict[Key, Tuple[Attempt, threading.Thread]] = {}

    def task(self, kind: str) -> Callable[[_F], _F]:
        """Names the function for a kind of tasks. What it returns is the value."""

        def register(function: _F) -> _F:
            self._functions[kind] = function
            return function

        return register

    def stop(self) -> None:
        """Takes nothing more; ``run`` returns when what is executed has ended."""
        self._stopping.set()
        self._line.hang_up()
        with self._changed:
            self._changed.notify_all()

    def run(self) -> None:
        """Works until it is stopped. A worker runs once."""
        kinds = self._kinds or tuple(self._functions)
        missing = [kind for kind in kinds if kind not in self._functions]
        if missing or not kinds:
            raise DormouseError(f"there is no function for {', '.join(missing) or 'any kind'}")
        self._outbox.open()
        try:
            with self._signals():
                self._settle()
                self._heart.start()
                try:
                    self._claim(kinds)
                finally:
                    self._drain()
                    self._heart.stop()
        finally:
            self._outbox.close()

    # Claiming.

    def _claim(self, kinds: Sequence[str]) -> None:
        claim_id, failed = uuid.uuid4().hex, 0
        while not self._stopping.is_set():
            free = self._wait_for_room()
            if free == 0:
                return
            try:
                claimed = self.client.tasks.claim(
                    self.name,
                    kinds,
                    most=min(free, CLAIM_MAX),
                    wait=self._wait,
                    ttl=self._ttl,
                    claim_id=claim_id,
                    line=self._line,
                    **self._wanted,
                )
            except (Unreachable, Problem) as why:
                # The same claim again: what it may have started is not lost.
                if isinstance(why, Problem) and not why.retryable:
                    raise
                failed += 1
                self._pause(why, failed)
                continue
            claim_id, failed = uuid.uuid4().hex, 0
            for task in claimed.tasks:
                self._begin(task)

    def _wait_for_room(self) -> int:
        """How many tasks more it may take; none when it is to stop."""
        with self._changed:
            while not self._stopping.is_set():
                free = self._concurrency - len(self._running)
                if free > 0:
                    return free
                self._changed.wait()
        return 0

    def _begin(self, task: Task) -> None:
        attempt = Attempt(task, self._progress)
        thread = threading.Thread(target=self._execute, args=(attempt,), daemon=True)
        with self._changed:
            self._running[key_of(task)] = (attempt, thread)
        self._heart.add(attempt)
        thread.start()

    def _progress(self, task: Task, percent: Optional[float], label: Optional[str]) -> None:
        with self._changed:
            attempt = self._running[key_of(task)][0]
        try:
            beat = self.client.tasks.heartbeat
            answer = beat(*key_of(task), worker=self.name, percent=percent, label=label)
        except Problem as problem:
            answer = {"status": problem.status, **problem.members}
        except Unreachable:
            return  # The next heartbeat does as well.
        self._heart.hear(attempt, answer)

    # One task.

    def _execute(self, attempt: Attempt) -> None:
        task = attempt.task
        try:
            try:
                self._outbox.begin(task)
            except OSError as why:
                outcome: Any = Release(f"the worker's outbox cannot be written: {why}")
            else:
                _log.info("%s %s/%s begins", task.kind, task.run_id, task.effect_id)
                outcome = self._perform(attempt)
            self._deliver(task, outcome)
        except Exception:
            _log.exception("%s/%s could not be settled", task.run_id, task.effect_id)
        finally:
            self._heart.remove(attempt)
            with self._changed:
                self._running.pop(key_of(task), None)
                self._changed.notify_all()

    def _perform(self, attempt: Attempt) -> Outcome:
        try:
            attempt.task = self.client.tasks.whole(attempt.task)
        except (Problem, Unreachable) as why:
            return Release(f"the arguments cannot be read: {why}")
        return attempt.perform(self._functions[attempt.task.kind])

    def _deliver(self, task: Task, outcome: Any) -> None:
        if isinstance(outcome, Result):
            self._outbox.finish(task, outcome.body)
            self._post(key_of(task), outcome.body, self._leaving)
        else:
            self._release(key_of(task), outcome.reason, self._leaving)

    def _post(self, key: Key, body: Dict[str, Any], until: threading.Event) -> None:
        """Posts an outcome until the daemon has taken or refused it."""
        run_id, effect_id, _ = key
        send = self.client.tasks.post_body
        try:
            if not self._insist(lambda: send(run_id, effect_id, body), until):
                return
        except Conflict as conflict:
            # It was settled otherwise; the daemon keeps what came too late.
            _log.warning("%s/%s: %s", run_id, effect_id, conflict)
        except Problem as problem:
            if problem.status in _NOT_LET_IN:
                _log.error("%s/%s: the outcome stays in the outbox: %s", *key[:2], problem)
                return
            _log.error("%s/%s: the outcome is refused: %s", run_id, effect_id, problem)
            self._outbox.refuse(key)
            if body["status"] != "unknown":
                # It has ended, and the daemon cannot be told how.
                instead = unknown("OutcomeRefused", str(problem)).body
                return self._post(key, {"epoch": body["epoch"], **instead}, until)
        self._outbox.forget(key)

    def _release(self, key: Key, reason: str, until: threading.Event) -> None:
        release = self.client.tasks.release
        run_id, effect_id, _ = key
        try:
            if not self._insist(lambda: release(*key, began=False, reason=reason), until):
                # Without its file the next worker of this name releases it.
                _log.warning("%s/%s is not released yet", run_id, effect_id)
        except Problem as problem:
            # A repeat, or nobody waits for it any more.
            _log.info("%s/%s: %s", run_id, effect_id, problem)
        self._outbox.forget(key)

    def _insist(self, ask: Callable[[], Any], until: threading.Event) -> bool:
        """Asks until there is an answer, or the event; false if there was none."""
        failed = 0
        while True:
            try:
                ask()
                return True
            except Unreachable as why:
                failed += 1
                reason: DormouseError = why
            except Problem as problem:
                if not problem.retryable:
                    raise
                failed += 1
                reason = problem
            _log.warning("no answer, asking again: %s", reason)
            if until.wait(backoff(failed, AGAIN_MAX)):
                return False

    # Beginning and end.

    def _settle(self) -> None:
        """Settles what this name holds and does not execute: it was restarted, or a claim's
        answer was lost."""
        failed = 0
        while True:
            try:
                held = self._held()
                break
            except (Unreachable, Problem) as why:
                if isinstance(why, Problem) and not why.retryable:
                    raise
                failed += 1
                if self._stopping.is_set():
                    return
                self._pause(why, failed)
        known = {entry.key: entry for entry in self._outbox.entries()}
        for key in held:
            if key not in known:
                self._release(key, "the worker took it and did not begin", self._stopping)
            elif known[key].result is None:
                instead = unknown("WorkerLost", "the worker ended in the middle of it").body
                body = {"epoch": key[2], **instead}
                self._post(key, body, self._stopping)
        for entry in known.values():
            self._settle_entry(entry, entry.key in held)

    def _settle_entry(self, entry: Entry, is_held: bool) -> None:
        if entry.result is not None:
            self._post(entry.key, entry.result, self._stopping)
        elif not is_held:
            self._outbox.forget(entry.key)

    def _held(self) -> List[Key]:
        """Attempts that the daemon has under this name and that are not executed here."""
        listed = self.client.tasks.list(worker=self.name, state="started")
        keys = [(told["runId"], told["effectId"], told["epoch"]) for told in listed]
        with self._changed:
            return [key for key in keys if key not in self._running]

    def _drain(self) -> None:
        """Waits for what is executed, then stops it, then leaves."""
        self._stopping.set()
        if self._wait_for_none(self._grace):
            with self._changed:
                left = [attempt for attempt, _ in self._running.values()]
            for attempt in left:
                attempt.tell("stop", "the worker stops")
            self._wait_for_none(STOP_GRACE)
        self._leaving.set()
        self._wait_for_none(LEAVE_GRACE)
        try:
            held = self._held()
        except DormouseError:
            return  # The next worker of this name settles it.
        known = {entry.key for entry in self._outbox.entries()}
        for key in held:
            if key not in known:
                self._release(key, "the worker stops and did not begin", self._leaving)

    def _wait_for_none(self, seconds: float) -> bool:
        """Waits until nothing is executed; true if something still is."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._running and time.monotonic() < until:
                self._changed.wait(until - time.monotonic())
            return bool(self._running)

    def _pause(self, why: DormouseError, failed: int) -> None:
        if not self._stopping.is_set():
            _log.warning("asking again: %s", why)
            self._stopping.wait(backoff(failed, AGAIN_MAX))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stops on SIGTERM and SIGINT, where signals can be had; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.getsignal(number) for number in numbers}

        def handle(number: int, _: Any) -> None:
            for each, handler in before.items():
                signal.signal(each, handler)
            # Not here: the thread that is interrupted may hold the very locks.
            threading.Thread(target=self.stop, daemon=True).start()

        for number in numbers:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
