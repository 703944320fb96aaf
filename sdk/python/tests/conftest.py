"""What tests stand on: the scripted daemon, and the real one on a root of its own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from daemon import Daemon
from scripted import Scripted

from dormouse import Worker


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """A daemon that does as it is told."""
    server = Scripted()
    yield server
    server.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """``dormouse serve`` on an empty root."""
    served = Daemon(tmp_path / ".dormouse" / "runs", tmp_path)
    served.start()
    yield served
    served.stop()


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Runs workers in threads, and stops them."""
    started: List[Any] = []

    def begin(worker: Worker) -> Worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        started.append((worker, thread))
        return worker

    yield begin
    for worker, thread in started:
        worker.stop()
        thread.join(20)
        assert not thread.is_alive()
