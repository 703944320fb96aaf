"""An attempt at work: the task that a function gets, and what may interrupt it.

May not know daemons or files. Invariant: what interrupts a function is raised inside it or not at
all; nothing of it is left over when the function has ended.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import traceback
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from .problems import DormouseError
from .runs import ABSENT
from .tasks import Task
from .wire import encode, given

#: How long a child process has to end by itself, in seconds.
KILL_GRACE = 5.0
#: Bounds of what is told about an error, in characters.
NAME_MAX, MESSAGE_MAX, STACK_MAX = 200, 16_000, 30_000


class NotBegun(DormouseError):
    """Raised by a function: nothing outside has happened, somebody else may try."""


class Unknown(DormouseError):
    """Raised by a function: it began, and nobody knows how it ended. ``evidence`` may help."""

    def __init__(self, what: str = "", evidence: Any = None) -> None:
        super().__init__(what)
        self.evidence = evidence


class Final(DormouseError):
    """Raised by a function: it failed, and would fail again. ``data`` goes to the process."""

    def __init__(self, what: str = "", data: Any = None) -> None:
        super().__init__(what)
        self.data = data


class Stopped(BaseException):
    """Raised in a function whose work is not wanted any more. Clean up, and let it pass.

    It is no ``Exception``, so that code which survives every error does not survive this.
    """


class Cancelled(Stopped):
    """The same, because the run is being cancelled: what the function reports still counts."""


@dataclass(frozen=True)
class Release:
    """Nothing happened: the task goes back."""

    reason: str


@dataclass(frozen=True)
class Result:
    """How it ended, as it is posted."""

    body: Dict[str, Any]


Outcome = Union[Release, Result]
Progress = Callable[[Task, Optional[float], Optional[str]], None]
Function = Callable[["Attempt"], Any]


class Attempt:
    """What a task's function gets: the task, and ways to be stopped.

    The members of the task (``args``, ``idempotency_key``, ``epoch``…) are members of this.
    """

    def __init__(self, task: Task, progress: Progress) -> None:
        self.task = task
        self.directive = "continue"
        self.reason: Optional[str] = None
        self._progress = progress
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._thread: Optional[int] = None
        self._children: List[subprocess.Popen[Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["task"], name)

    def __repr__(self) -> str:
        return f"Attempt({self.task.run_id}/{self.task.effect_id}, epoch {self.task.epoch})"

    @property
    def args(self) -> Any:
        """The arguments of the call."""
        return self.task.args

    @property
    def definition(self) -> Any:
        """What the process asked for."""
        return self.task.definition

    @property
    def idempotency_key(self) -> str:
        """Equal over all attempts of this effect: give it to the outside."""
        return self.task.idempotency_key

    @property
    def is_stopped(self) -> bool:
        """Whether the work is not wanted any more."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raises ``Stopped`` if the work is not wanted any more."""
        if self._stop.is_set():
            raise self._interruption()(self.reason or self.directive)

    def sleep(self, seconds: float) -> None:
        """Sleeps, unless the work is stopped: then it raises ``Stopped`` at once."""
        self._stop.wait(seconds)
        self.check()

    def progress(self, percent: Optional[float] = None, label: Optional[str] = None) -> None:
        """Tells how far it is. Keeps the lease, and raises ``Stopped`` if it is to stop."""
        self._progress(self.task, percent, label)
        self.check()

    def spawn(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
        """Starts a child process, which ends at the latest with this attempt."""
        with self._lock:
            self.check()
            options.setdefault("start_new_session", True)
            child: subprocess.Popen[Any] = subprocess.Popen(argv, **options)
            self._children.append(child)
        return child

    def tell(self, directive: str, reason: Optional[str] = None) -> None:
        """Stops the work, from another thread: ``cancel`` or ``stop``. Twice is once."""
        with self._lock:
            if self._stop.is_set():
                return
            self.directive, self.reason = directive, reason
            self._stop.set()
            self._end_children()
            if self._thread is not None:
                _raise_in(self._thread, self._interruption())

    def perform(self, function: Function) -> Outcome:
        """Calls the function, and says what came of it."""
        began = _now()
        outcome = self._outcome(function)
        if isinstance(outcome, Result):
            times = {"startedAt": began, "finishedAt": _now()}
            return Result({"epoch": self.task.epoch, **outcome.body, **times})
        return outcome

    def _outcome(self, function: Function) -> Outcome:
        value = ABSENT
        try:
            try:
                with self._lock:
                    self.check()
                    self._thread = threading.get_ident()
                value = function(self)
            finally:
                self._leave()
        except NotBegun as why:
            return Release(str(why) or "the worker did not begin")
        except Unknown as why:
            return unknown("Unknown", str(why), evidence=why.evidence)
        except Final as why:
            return failed(why, is_final=True, data=why.data)
        except Exception as why:
            return failed(why, is_final=False)
        except Stopped:
            if value is ABSENT:
                what = self.reason or f"the work was stopped: {self.directive}"
                return unknown("Stopped", what)
            # It had returned already.
        except BaseException as why:
            return unknown(type(why).__name__, f"the function left by {why!r}")
        try:
            encode({"value": value})
        except (TypeError, ValueError, RecursionError) as why:
            return unknown("ValueUnreadable", f"what the function returned is not JSON: {why}")
        return Result({"status": "ok", "value": value})

    def _leave(self) -> None:
        """The function has ended: nothing is raised in this thread any more."""
        with self._lock:
            if self._thread is not None:
                _raise_in(self._thread, None)
                self._thread = None
            self._end_children()

    def _interruption(self) -> "type[Stopped]":
        return Cancelled if self.directive == "cancel" else Stopped

    def _end_children(self) -> None:
        alive = [child for child in self._children if child.poll() is None]
        for child in alive:
            _signal(child, signal.SIGTERM)
        if alive:
            threading.Thread(target=_reap, args=(alive,), daemon=True).start()
        self._children.clear()


def failed(why: Exception, *, is_final: bool, data: Any = None) -> Result:
    """It is known that it failed."""
    stack = "".join(traceback.format_exception(type(why), why, why.__traceback__))
    error = given(
        name=type(why).__name__[:NAME_MAX],
        message=str(why)[:MESSAGE_MAX],
        stack=stack[-STACK_MAX:],
        data=_readable(data),
        retryable=False if is_final else None,
    )
    return Result({"status": "error", "error": _clean(error)})


def unknown(name: str, what: str, evidence: Any = None) -> Result:
    """It began, and nobody knows how it ended."""
    error = given(name=name[:NAME_MAX], message=what[:MESSAGE_MAX], data=_readable(evidence))
    return Result({"status": "unknown", "error": _clean(error)})


def _readable(value: Any) -> Any:
    """The value, or what it looks like if JSON has no word for it."""
    try:
        encode({"value": value})
    except (TypeError, ValueError, RecursionError):
        return repr(value)[:MESSAGE_MAX]
    return value


def _clean(error: Dict[str, Any]) -> Dict[str, Any]:
    """Texts without halves of characters, which JSON cannot carry."""
    def clean(value: Any) -> Any:
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

    return {name: clean(value) for name, value in error.items()}


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _raise_in(thread: int, what: "Optional[type[BaseException]]") -> None:
    """Raises in another thread at its next step, or takes back what it has not raised yet."""
    target = ctypes.py_object() if what is None else ctypes.py_object(what)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)


def _signal(child: "subprocess.Popen[Any]", number: int) -> None:
    try:
        # Its own group, unless somebody asked `spawn` for something else.
        group = os.getpgid(child.pid)
        os.killpg(group, number) if group == child.pid else child.send_signal(number)
    except (ProcessLookupError, PermissionError):
        pass  # It has ended by itself.


def _reap(children: "Sequence[subprocess.Popen[Any]]") -> None:
    for child in children:
        try:
            child.wait(KILL_GRACE)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)
            child.wait()
