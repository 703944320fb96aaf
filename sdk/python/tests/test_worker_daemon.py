"""Workers against the real daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from daemon import Daemon

from dormouse import Attempt, Cancelled, Client, Conflict, Final, Unknown, Worker

PYTHON = Path(__file__).resolve().parents[1]
PROCESS = """
import { defineTask } from "dormouse";
const work = defineTask("work", (args) => ({ kind: "work", title: "Work", labels: ["l"], args }));
export async function process(inputs, ctx) {
  try {
    return { value: await ctx.task(work, inputs.args, inputs.options) };
  } catch (error) {
    return { name: error.name, message: error.message, data: error.data };
  }
}
"""


@pytest.fixture
def client(daemon: Daemon) -> Client:
    return Client(runs_root=daemon.root)


@pytest.fixture
def make(daemon: Daemon, tmp_path: Path) -> Callable[..., Worker]:
    def worker(name: str = "w", **options: Any) -> Worker:
        return Worker(
            None, name, runs_root=daemon.root, outbox=tmp_path / name, ttl=5.0, **options
        )

    return worker


def create(daemon: Daemon, client: Client, args: Any, **options: Any) -> None:
    inputs = {"args": args, "options": options}
    client.runs.create(daemon.module(PROCESS), inputs, run_id="r1")


def output(client: Client) -> Any:
    """What the run comes to, once it has ended."""
    ended = [event for event in client.runs.follow("r1")][-1]
    assert ended.type == "RUN_COMPLETED", ended
    return client.runs.iterate("r1")["output"]


def until(client: Client, kind: str) -> None:
    """Waits for a record."""
    for event in client.runs.follow("r1"):
        if event.type == kind:
            return
    raise AssertionError(f"{kind} never came")


def test_a_run_gets_its_value(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()
    told: Dict[str, Any] = {}

    @worker.task("work")
    def function(task: Attempt) -> Any:
        told.update(task.task.raw)
        return {"twice": task.args["n"] * 2, "key": task.idempotency_key}

    work(worker)
    create(daemon, client, {"n": 21})
    assert output(client) == {"value": {"twice": 42, "key": "r1/e0001"}}
    assert (told["title"], told["labels"], told["epoch"], told["attempt"]) == ("Work", ["l"], 1, 1)
    assert told["heartbeatEveryMs"] * 3 <= told["ttlMs"] == 5000
    started = next(e for e in client.runs.events("r1", types=["EFFECT_STARTED"]))
    assert started.data["worker"] == "w"


def test_a_long_value_is_uploaded(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()

    @worker.task("work")
    def function(task: Attempt) -> Any:
        task.progress(50, "half")
        return "ä" * 800_000

    work(worker)
    create(daemon, client, None)
    assert output(client) == {"value": "ä" * 800_000}
    resolved = next(e for e in client.runs.events("r1", types=["EFFECT_RESOLVED"]))
    assert resolved.data["valueBlob"]["bytes"] == 2 * 800_000 + 2


def test_long_arguments_are_fetched(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()

    @worker.task("work")
    def function(task: Attempt) -> Any:
        return [len(task.args["text"]), "argsLink" in task.raw]

    work(worker)
    create(daemon, client, {"text": "a" * 100_000})
    assert output(client) == {"value": [100_000, True]}


def test_a_final_failure_reaches_the_process(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()

    @worker.task("work")
    def function(task: Attempt) -> Any:
        raise Final("there is no such city", data={"city": task.args})

    work(worker)
    create(daemon, client, "Atlantis", retry=True)
    said = output(client)
    assert (said["message"], said["data"]) == ("there is no such city", {"city": "Atlantis"})


def test_a_failure_is_tried_again_if_the_process_asked_for_it(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()

    @worker.task("work")
    def function(task: Attempt) -> Any:
        if task.attempt == 1:
            raise ValueError("not yet")
        return [task.epoch, task.previous_attempts[0]["class"]]

    work(worker)
    create(daemon, client, None, retry={"maxAttempts": 2, "initial": "1ms"})
    assert output(client) == {"value": [2, "reported"]}


def test_what_is_unknown_waits_for_a_decision(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()

    @worker.task("work")
    def function(task: Attempt) -> Any:
        raise Unknown("the line went dead", evidence={"sent": 12})

    work(worker)
    create(daemon, client, None)
    until(client, "EFFECT_UNCERTAIN")
    with pytest.raises(Conflict) as stale:
        client.tasks.decide("r1", "e0001", "done", epoch=7, reason="no", value=1)
    assert stale.value.code in ("stale_lease", "unknown_epoch")
    reason = "the other side has it"
    client.tasks.decide("r1", "e0001", "done", epoch=1, reason=reason, value={"seen": True})
    assert output(client) == {"value": {"seen": True}}


def test_a_task_goes_back_and_is_taken_by_another(daemon: Daemon, client: Client) -> None:
    create(daemon, client, None)
    claimed = client.tasks.claim("one", ["work"], claim_id="c", ttl=5.0)
    task = claimed.tasks[0]
    again = client.tasks.claim("one", ["work"], claim_id="c", ttl=5.0)
    assert (again.tasks[0].epoch, again.tasks[0].effect_id) == (task.epoch, task.effect_id)
    with pytest.raises(Conflict) as leased:
        client.tasks.claim_one("r1", "e0001", "two", ttl=5.0)
    assert leased.value.code == "leased"
    beat = client.tasks.heartbeat("r1", "e0001", task.epoch, worker="one")
    assert beat["directive"] == "continue"
    held = list(client.tasks.list(worker="one", state="started"))
    assert [(t["runId"], t["effectId"], t["epoch"]) for t in held] == [("r1", "e0001", 1)]
    client.tasks.release("r1", "e0001", task.epoch, began=False, reason="no room")
    second = client.tasks.claim_one("r1", "e0001", "two", ttl=5.0)
    assert second.epoch == 2
    answers = client.tasks.heartbeat_all("one", [task])
    assert answers[0]["problem"]["code"] == "stale_lease"
    with pytest.raises(Conflict) as stale:
        client.tasks.post("r1", "e0001", "ok", "late", epoch=1)
    assert stale.value.code == "stale_lease"
    client.tasks.post("r1", "e0001", "ok", "mine", epoch=2)
    assert output(client) == {"value": "mine"}


def test_a_worker_stops_when_its_run_is_cancelled(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()
    begun, stopped = threading.Event(), threading.Event()

    @worker.task("work")
    def function(task: Attempt) -> Any:
        begun.set()
        try:
            task.sleep(60)
        except Cancelled:
            stopped.set()
            raise

    work(worker)
    create(daemon, client, None)
    assert begun.wait(30)
    client.runs.cancel("r1", "enough")
    assert stopped.wait(30)
    kinds = [event.type for event in client.runs.follow("r1")]
    assert kinds[-1] == "RUN_CANCELLED" and kinds.count("EFFECT_STARTED") == 1


def test_a_result_survives_a_killed_daemon(
    daemon: Daemon,
    client: Client,
    make: Callable[..., Worker],
    work: Callable[[Worker], Worker],
) -> None:
    worker = make()
    calls = []

    @worker.task("work")
    def function(task: Attempt) -> Any:
        calls.append(task.epoch)
        daemon.kill()
        threading.Thread(target=daemon.start).start()
        return "kept"

    work(worker)
    create(daemon, client, None)
    assert output(client) == {"value": "kept"}
    assert calls == [1]


def test_the_readme_works_as_printed(daemon: Daemon, tmp_path: Path) -> None:
    text = (PYTHON / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:js|python)\n(.*?)```", text, re.S)
    names = ("release.js", "worker.py", "ask.py")
    for name, block in zip(names, blocks):
        (tmp_path / name).write_text(block, encoding="utf-8")
    assert len(blocks) == len(names) and blocks[1].count("\n") <= 15
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(PYTHON / "src")}
    begin = {"cwd": tmp_path, "env": env}
    worker = subprocess.Popen([sys.executable, "worker.py"], **begin)  # type: ignore[call-overload]
    try:
        ran = subprocess.run(
            [sys.executable, "ask.py"], cwd=tmp_path, env=env, timeout=60, check=True,
            capture_output=True, text=True,
        )
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
    assert ran.stdout.splitlines()[-1].endswith(" RUN_COMPLETED")
    runs = list(Client(runs_root=daemon.root).runs.list())
    shown = Client(runs_root=daemon.root).runs.iterate(runs[0]["runId"])
    key = f"{runs[0]['runId']}/e0001"
    assert shown["output"] == {"built": "v1.4", "log": "building v1.4\n", "key": key}
