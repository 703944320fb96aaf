"""The client against the real daemon."""

from __future__ import annotations

import threading
from typing import List

import pytest
from daemon import Daemon

from dormouse import Client, Conflict, Event, NotFound, Problem

PROCESS = """
import { defineTask } from "dormouse";
const plan = defineTask("plan", (args) => ({ kind: "agent", title: "Plan it", args }));
export async function process(inputs, ctx) {
  const made = await ctx.task(plan, { goal: inputs.goal });
  const answer = await ctx.breakpoint({ title: "Ship it?" });
  const signal = await ctx.signal("deployed");
  return { made, approved: answer.approved, signal };
}
"""


@pytest.fixture
def client(daemon: Daemon) -> Client:
    """Over the Unix socket, with every right."""
    return Client(runs_root=daemon.root)


def create(client: Client, daemon: Daemon, run_id: str) -> None:
    entry = daemon.module(PROCESS)
    client.runs.create(entry, {"goal": "g"}, run_id=run_id)
    client.runs.iterate(run_id)


def test_a_run_from_its_beginning_to_its_end(client: Client, daemon: Daemon) -> None:
    assert client.ready() and client.version()["name"] == "dormouse"
    create(client, daemon, "r1")
    assert client.runs.get("r1")["runId"] == "r1"
    assert [task["effectId"] for task in client.tasks.list(kind="agent")] == ["e0001"]
    assert client.tasks.get("r1", "e0001")["args"] == {"goal": "g"}
    first = client.tasks.post("r1", "e0001", "ok", {"n": 1.5}, stdout="said\n")
    assert first["repeat"] is False
    again = client.tasks.post("r1", "e0001", "ok", {"n": 1.5}, stdout="said\n")
    assert (again["repeat"], again["seq"]) == (True, first["seq"])
    with pytest.raises(Conflict):
        client.tasks.post("r1", "e0001", "ok", {"n": 2})
    client.runs.iterate("r1")
    assert [b["effectId"] for b in client.breakpoints.list("r1")] == ["e0002"]
    client.breakpoints.approve("r1", "e0002", response="yes")
    client.runs.iterate("r1")
    sent = client.runs.signal("r1", "deployed", {"ok": True}, signal_id="s")
    assert client.runs.signal("r1", "deployed", {"ok": True}, signal_id="s")["repeat"]
    assert sent["done"]
    report = client.runs.iterate("r1")
    assert report["status"] == "completed"
    assert report["output"]["made"] == {"n": 1.5} and report["output"]["approved"] is True
    kinds = [event.type for event in client.runs.events("r1", page_size=2)]
    assert kinds[0] == "RUN_CREATED" and kinds[-1] == "RUN_COMPLETED"
    assert [e.type for e in client.runs.events("r1", types=["RUN_COMPLETED"])] == ["RUN_COMPLETED"]
    assert [e["status"] for e in client.tasks.of_run("r1")][0] == "resolved_ok"


def test_steering(client: Client, daemon: Daemon) -> None:
    create(client, daemon, "r1")
    client.runs.pause("r1")
    assert client.runs.get("r1")["nativeState"] == "paused"
    client.runs.resume("r1", "go on")
    client.runs.cancel("r1", "enough")
    kinds = [event.type for event in client.runs.follow("r1")]
    assert {"RUN_PAUSED", "RUN_RESUMED", "EFFECT_CANCELLED"} <= set(kinds)
    assert kinds[-1] == "RUN_CANCELLED"
    with pytest.raises(Conflict) as ended:
        client.tasks.post("r1", "e0001", "ok", 1)
    assert ended.value.effect_id == "e0001"
    client.runs.create(run_id="bare")
    listed = client.runs.list(page_size=1)
    assert {run["runId"] for run in listed} == {"r1", "bare"}
    with pytest.raises(NotFound) as missing:
        client.runs.get("nobody")
    assert missing.value.code == "run_not_found"


def test_the_same_key_makes_the_same_run(client: Client, daemon: Daemon) -> None:
    entry = daemon.module(PROCESS)
    first = client.runs.create(entry, {"goal": "g"}, idempotency_key="k")
    second = client.runs.create(entry, {"goal": "g"}, idempotency_key="k")
    assert (second["runId"], second["existed"]) == (first["runId"], True)
    with pytest.raises(Problem) as other:
        client.runs.create(entry, {"goal": "h"}, idempotency_key="k")
    assert other.value.status in (409, 422)


def test_a_token_lets_in_over_tcp(daemon: Daemon) -> None:
    token = daemon.command("token", "create", "reader", "--scope", "run.read")["token"]
    # Tokens are read when the daemon starts.
    daemon.stop()
    daemon.start()
    assert list(Client(daemon.url, token).runs.list()) == []
    with pytest.raises(Problem) as refused:
        Client(daemon.url, token).runs.create(run_id="bare")
    assert (refused.value.status, refused.value.code) == (403, "forbidden")
    with pytest.raises(Problem) as stranger:
        list(Client(daemon.url).runs.list())
    assert stranger.value.status == 401


def test_following_goes_on_where_a_killed_daemon_broke_off(client: Client, daemon: Daemon) -> None:
    create(client, daemon, "r1")
    told: List[Event] = []
    waiting, ended = threading.Event(), threading.Event()

    def follow() -> None:
        for event in client.runs.follow("r1"):
            told.append(event)
            if event.type == "EFFECT_REQUESTED":
                waiting.set()
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    assert waiting.wait(30)
    daemon.kill()
    daemon.start()
    client.tasks.post("r1", "e0001", "ok", 1)
    client.runs.iterate("r1")
    client.runs.cancel("r1", now=True)
    assert ended.wait(60)
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert told[-1].type == "RUN_CANCELLED"
    assert told == list(client.runs.events("r1"))
