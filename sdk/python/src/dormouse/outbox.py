"""What a worker knows of its attempts, on disk: one file each, from before its function is
called until the daemon has taken its outcome.

May not know daemons. Invariant: no function is called before its file is durable, and no outcome
is sent before it is; so a worker that comes back knows what it began and what came of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Tuple

from .problems import DormouseError
from .tasks import Task

#: Outcomes that a daemon did not want are kept, this many at most.
REFUSED_MAX = 100

Key = Tuple[str, str, int]


class WorkerRuns(DormouseError):
    """Another worker of this name is at work. Each needs a name of its own."""


@dataclass(frozen=True)
class Entry:
    """What is known of one attempt."""

    run_id: str
    effect_id: str
    epoch: int
    #: The result as it is posted; nothing while the function has not ended.
    result: Optional[Dict[str, Any]]

    @property
    def key(self) -> Key:
        """Which attempt."""
        return (self.run_id, self.effect_id, self.epoch)


def key_of(task: Task) -> Key:
    """Which attempt a task is."""
    return (task.run_id, task.effect_id, task.epoch)


def default_place(worker: str, url: str) -> Path:
    """Where a worker of this name keeps its files, apart from those of other daemons."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    digest = hashlib.sha256(f"{worker}\0{url}".encode()).hexdigest()[:16]
    return Path(state) / "dormouse" / "workers" / digest


class Outbox:
    """The files of one worker. One process at a time has them."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock: Optional[IO[str]] = None

    def open(self) -> None:
        """Takes the directory, or raises ``WorkerRuns``."""
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(self._place / "lock", "w", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise WorkerRuns(f"another worker holds {self._place}") from None
        self._lock = lock

    def close(self) -> None:
        """Lets the directory go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def begin(self, task: Task) -> None:
        """Says, durably, that the function of an attempt is about to be called."""
        self._write(Entry(task.run_id, task.effect_id, task.epoch, None))

    def finish(self, task: Task, result: Dict[str, Any]) -> None:
        """Says, durably, what came of it."""
        self._write(Entry(task.run_id, task.effect_id, task.epoch, result))

    def entries(self) -> List[Entry]:
        """All attempts that were begun and not settled."""
        found = []
        for path in sorted(self._place.glob("*.json")):
            told = json.loads(path.read_text(encoding="utf-8"))
            found.append(Entry(told["runId"], told["effectId"], told["epoch"], told["result"]))
        return found

    def forget(self, key: Key) -> None:
        """Drops an attempt that is settled."""
        try:
            os.unlink(self._path(key))
        except FileNotFoundError:
            pass

    def refuse(self, key: Key) -> None:
        """Keeps, apart, an outcome that the daemon does not want."""
        refused = self._place / "refused"
        refused.mkdir(mode=0o700, exist_ok=True)
        try:
            os.replace(self._path(key), refused / self._path(key).name)
        except FileNotFoundError:
            return
        kept = sorted(refused.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in kept[:-REFUSED_MAX]:
            path.unlink()

    def _path(self, key: Key) -> Path:
        run_id, effect_id, epoch = key
        return self._place / f"{run_id}.{effect_id}.{epoch}.json"

    def _write(self, entry: Entry) -> None:
        path = self._path(entry.key)
        told = {
            "runId": entry.run_id,
            "effectId": entry.effect_id,
            "epoch": entry.epoch,
            "result": entry.result,
        }
        fresh = path.with_suffix(".new")
        with open(fresh, "w", encoding="utf-8", opener=_private) as file:
            json.dump(told, file, ensure_ascii=False, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        directory = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
