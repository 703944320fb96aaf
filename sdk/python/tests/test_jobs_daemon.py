"""Messages to agents, against the real daemon."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Iterator

import pytest
from daemon import Daemon

from dormouse import AetherisClient, Client, JobFailedError, JobStatus, Problem, WaitTimeout

FLOW = """
export async function process({ goal }, ctx) {
  if (goal === "fail") throw new Error("no route");
  const answer = await ctx.breakpoint({ title: "Ship it?" });
  const paid = await ctx.signal("paid", { correlationKey: "order-7" });
  return { answer: goal, approved: answer.approved, paid };
}
"""
AGENTS = """
agents:
  echo: {type: echo}
  flow: {type: process, entry: flow.js}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """``dormouse serve --dev`` with two agents besides ``default``."""
    served = Daemon(tmp_path / "runs", tmp_path)
    served.module(FLOW, "flow.js")
    served.module(AGENTS, "agents.yaml")
    served.start(more=["--dev", "--log", "error", "--agents", str(tmp_path / "agents.yaml")])
    yield served
    served.stop()


@pytest.fixture
def client(daemon: Daemon) -> Client:
    """As somebody who has just installed both: a URL and nothing else."""
    return Client(url=daemon.url)


def test_a_message_is_answered_and_traced(client: Client) -> None:
    assert client.health()["status"] == "ok"
    job = client.submit(agent="default", message="hello", metadata={"n": 1}, priority=700)
    assert (job.agent_id, job.goal) == ("default", "hello")
    assert job.wait(timeout=60).status is JobStatus.COMPLETED
    assert "hello" in job.output["answer"] and job.raw["answer"] == job.output["answer"]
    trace = job.trace()
    assert trace.status is JobStatus.COMPLETED
    step = trace.steps[0]
    assert (step.name, step.status, step.attempts) == ("Ask default", "completed", 1)
    assert isinstance(step.duration_ms, int) and step.tool_invocation["input"] == "hello"
    kinds = [moment["type"] for moment in trace.raw["timeline"]]
    assert kinds[0] == "job_created" and kinds[-1] == "job_completed"
    other = client.submit("echo", {"n": [1]}).wait(timeout=60)
    assert other.output["answer"].endswith('{"n":[1]}')


def test_a_key_makes_one_job_of_an_agent(client: Client) -> None:
    first = client.submit("echo", "a", idempotency_key="k")
    assert client.submit("echo", "a", idempotency_key="k").id == first.id
    assert client.submit("default", "a", idempotency_key="k").id != first.id
    with pytest.raises(Problem) as other:
        client.submit("echo", "b", idempotency_key="k")
    assert (other.value.status, other.value.code) == (409, "run_exists")
    with pytest.raises(Problem) as nobody:
        client.submit("nobody", "a")
    assert nobody.value.code == "agent_unknown" and "default, echo, flow" in str(nobody.value)
    with pytest.raises(Problem) as blank:
        client.submit("echo", " ")
    assert (blank.value.status, blank.value.code) == (400, "message_required")


def test_a_job_waits_for_people_and_signals(client: Client) -> None:
    job = client.submit("flow", "release")
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (job.wait(timeout=60), done.set()))
    waiting.start()
    other = client.get(job.id)
    while other.raw.get("wait_reason") != "approval":
        other.refresh()
    assert other.is_waiting and not done.is_set()
    with pytest.raises(WaitTimeout):
        client.get(job.id).wait(timeout=0.2)
    other.signal({"approved": False})
    while other.refresh().raw.get("wait_reason") != "signal":
        assert not other.is_terminal
    assert other.raw["wait_correlation_key"] == "order-7"
    with pytest.raises(Problem) as wrong:
        other.signal(1, correlation_key="order-8")
    assert wrong.value.status == 400
    other.signal({"eur": 5}, correlation_key="order-7")
    waiting.join(60)
    assert done.is_set()
    assert job.output == {"answer": "release", "approved": False, "paid": {"eur": 5}}


def test_a_job_that_fails_or_is_stopped_says_so(client: Client) -> None:
    with pytest.raises(JobFailedError, match="no route") as failed:
        client.submit("flow", "fail").wait(timeout=60)
    assert failed.value.status is JobStatus.FAILED
    job = client.submit("flow", "x")
    assert job.cancel()["status"] == "cancelling"
    with pytest.raises(JobFailedError):
        job.wait(timeout=60)
    assert job.status is JobStatus.CANCELLED
    assert [found.id for found in client.list("flow", status="cancelled")] == [job.id]
    assert len(client.list("flow", limit=1)) == 1


def test_scripts_for_the_other_client(daemon: Daemon) -> None:
    client = AetherisClient(daemon.url + "/")
    assert client.health() is True
    job = client.run("default", "hello")
    job.wait(timeout=60)
    assert client.get_job(job.id).is_terminal
    assert [found.id for found in client.list_jobs("default")] == [job.id]


def test_an_adapter_that_polls_events(daemon: Daemon, client: Client) -> None:
    job = client.submit("default", "hello").wait(timeout=60)
    with urllib.request.urlopen(f"{daemon.url}/api/jobs/{job.id}/events") as answer:
        told = json.load(answer)
    last = told["events"][-1]
    assert (last["type"], last["payload"]["result"]) == ("job_completed", job.output)
    assert [event["id"] for event in told["events"]] == [1, 2, 3, 4, 5]
