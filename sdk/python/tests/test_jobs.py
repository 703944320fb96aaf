"""Messages to agents, against a scripted surface."""

from __future__ import annotations

from collections import deque
from typing import Any, Dict

import pytest
from scripted import Scripted

from dormouse import AetherisClient, Client, Job, JobFailedError, JobStatus, WaitTimeout


def looks(*statuses: str, **last: Any) -> "deque[Dict[str, Any]]":
    """What a job looks like, one look after the other."""
    seen = deque({"id": "j1", "agent_id": "a", "goal": "g", "status": s} for s in statuses)
    seen[-1].update(last)
    return seen


def test_submit_sends_a_text_as_message_and_anything_else_as_input(scripted: Scripted) -> None:
    client = Client(scripted.url)
    job = client.submit(agent="a b", message="do it", metadata={"m": 1}, priority=3)
    assert (job.id, job.agent_id, job.status, job.goal) == ("j1", "a b", JobStatus.PENDING, "do it")
    client.submit("a", {"n": [1]}, idempotency_key="mine")
    sent = [body for _, path, body in scripted.requests if path.endswith("/message")]
    assert sent == [{"message": "do it", "metadata": {"m": 1}, "priority": 3}, {"input": {"n": [1]}}]
    assert scripted.requests[0][1] == "/api/agents/a%20b/message"
    assert scripted.headers[1]["idempotency-key"] == "mine"


def test_a_submission_whose_answer_was_lost_keeps_its_key(scripted: Scripted) -> None:
    scripted.plan("message", "lose", "drop")
    Client(scripted.url).submit("a", "g")
    keys = [headers["idempotency-key"] for headers in scripted.headers]
    assert len(keys) == 3 and len(set(keys)) == 1
    Client(scripted.url).submit("a", "g")
    assert scripted.headers[3]["idempotency-key"] != keys[0]


def test_a_status_is_a_word_and_an_unknown_one_stays_a_text(scripted: Scripted) -> None:
    scripted.jobs["j1"] = looks("parked", "dreaming")
    client = Client(scripted.url)
    job = client.get("j1")
    assert job.status is JobStatus.PARKED and job.is_waiting
    assert isinstance(job.status, str) and f"{job.status}" == "parked"
    job.refresh()
    assert (job.status, job.is_terminal) == ("dreaming", False)
    assert len(JobStatus) == 8


def test_wait_follows_and_looks_again(scripted: Scripted) -> None:
    scripted.jobs["j1"] = looks("pending", "completed", output={"answer": 4})
    scripted.streams["/api/jobs/j1/events"] = deque(
        [b"id: 1\nevent: job_created\ndata: {}\n\nid: 2\nevent: job_completed\ndata: {}\n\n"]
    )
    job = Client(scripted.url).get("j1")
    scripted.jobs["j1"] = looks("pending", "completed", output={"answer": 4})
    assert job.wait(timeout=20).output == {"answer": 4}
    assert [method for method, _, _ in scripted.requests] == ["GET", "GET", "STREAM", "GET"]


def test_wait_polls_where_it_cannot_follow(scripted: Scripted) -> None:
    scripted.jobs["j1"] = looks("pending", "pending", "running", "retrying", "completed")
    job = Client(scripted.url).get("j1")
    assert job.wait(timeout=20, poll_interval=0.01).status == JobStatus.COMPLETED


def test_wait_says_how_it_ended_or_that_it_took_too_long(scripted: Scripted) -> None:
    client = Client(scripted.url)
    scripted.jobs["j1"] = looks("failed", error="no route")
    with pytest.raises(JobFailedError, match="j1 is failed: no route") as failed:
        client.get("j1").wait()
    assert failed.value.job.status == JobStatus.FAILED
    scripted.jobs["j1"] = looks("running")
    with pytest.raises(WaitTimeout):
        client.get("j1").wait(timeout=0.05, poll_interval=0.01)


def test_lists_and_traces_are_read_page_by_page(scripted: Scripted) -> None:
    step = {"name": "Ask", "status": "completed", "duration_ms": 12, "node_id": "e0001"}
    scripted.pages["agents/a/jobs"] = deque(
        [{"jobs": [{"id": "j1"}], "next_cursor": "c"}, {"jobs": [{"id": "j2"}, {"id": "j3"}]}]
    )
    scripted.pages["jobs/j1/trace"] = deque(
        [
            {"status": "running", "steps": [step], "next_cursor": "c"},
            {"status": "completed", "steps": [{**step, "name": "Tell"}], "next_cursor": None},
        ]
    )
    client = Client(scripted.url)
    assert [job.id for job in client.list("a", status="running", limit=2)] == ["j1", "j2"]
    trace = client.trace("j1")
    assert trace.status == JobStatus.COMPLETED
    assert [(s.name, s.status, s.duration_ms) for s in trace.steps] == [
        ("Ask", "completed", 12),
        ("Tell", "completed", 12),
    ]
    assert trace.steps[0].node_id == "e0001"
    with pytest.raises(AttributeError):
        trace.steps[0].nonsense


def test_the_names_of_the_other_client(scripted: Scripted) -> None:
    client = AetherisClient(scripted.url + "/", token=None)
    assert client.health() is True
    job = client.run("a", "g", idempotency_key="k")
    assert isinstance(job, Job)
    scripted.jobs["j1"] = looks("waiting")
    assert client.get_job("j1").is_waiting
    job.signal({"approved": True}, correlation_key="c")
    client.signal_job("j1", {"approved": False})
    assert scripted.asked("signal") == [
        {"correlation_key": "c", "payload": {"approved": True}},
        {"payload": {"approved": False}},
    ]
    job.cancel()
    assert scripted.requests[-1][:2] == ("POST", "/api/jobs/j1/stop")
    scripted.close()
    assert client.health() is False
