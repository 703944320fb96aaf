"""Workers, against a daemon that fails as it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from scripted import PATIENCE, Effect, Scripted, problem

from dormouse import (
    Attempt,
    Cancelled,
    DormouseError,
    Final,
    NotBegun,
    Problem,
    Stopped,
    Unknown,
    Worker,
    WorkerRuns,
)

Begin = Callable[[Worker], Worker]
SOURCES = Path(__file__).resolve().parents[1] / "src"


@pytest.fixture
def make(scripted: Scripted, tmp_path: Path) -> Callable[..., Worker]:
    """Workers of the scripted daemon, with an outbox in the test's directory."""

    def worker(name: str = "w", **options: Any) -> Worker:
        options = {"outbox": tmp_path / "outbox", "grace": 0.2, "wait": 5.0, **options}
        return Worker(scripted.url, name, **options)

    return worker


def files(tmp_path: Path) -> "list[str]":
    return sorted(path.name for path in (tmp_path / "outbox").glob("**/*.json"))


def settled(scripted: Scripted, effect: Effect) -> Any:
    scripted.until(lambda: effect.posts)
    return effect.posts[0]


def test_long_arguments_are_fetched_before_the_function_is_called(
    scripted: Scripted, make: Callable[..., Worker], work: Begin
) -> None:
    worker = make()

    @worker.task("double")
    def double(task: Attempt) -> Any:
        return task.args["of"] * 2

    scripted.plan("blobs/b3:0", problem(404, "blob_unknown"))
    work(worker)
    effect = scripted.offer("double", {"of": 21}, is_long=True)
    assert settled(scripted, effect)["value"] == 42
    # What could not be read was not begun.
    assert [told["began"] for told in effect.releases] == [False]
    assert effect.epoch == 2


def test_a_value_is_posted_with_its_epoch(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    worker = make()

    @worker.task("double")
    def double(task: Attempt) -> Any:
        return {"twice": task.args * 2, "key": task.idempotency_key, "epoch": task.epoch}

    work(worker)
    effect = scripted.offer("double", 21)
    scripted.offer("other")
    post = settled(scripted, effect)
    assert post["value"] == {"twice": 42, "key": "r1/e0001", "epoch": 1}
    assert (post["status"], post["epoch"]) == ("ok", 1)
    worker.stop()
    scripted.until(lambda: files(tmp_path) == [])
    assert scripted.effects["r1", "e0002"].state == "requested"


def test_a_claim_whose_answer_was_lost_starts_nothing_twice(
    scripted: Scripted, make: Callable[..., Worker], work: Begin
) -> None:
    effect = scripted.offer("k")
    scripted.plan("claim", "lose", "drop", problem(503, "index_rebuilding"))
    worker = make()
    worker.task("k")(lambda task: task.epoch)
    work(worker)
    assert settled(scripted, effect)["value"] == 1
    claims = scripted.asked("claim")
    assert len({claim["claimId"] for claim in claims[:4]}) == 1
    scripted.until(lambda: len(scripted.asked("claim")) > 4)
    assert scripted.asked("claim")[4]["claimId"] != claims[0]["claimId"]


def test_a_post_is_repeated_until_it_is_answered(
    scripted: Scripted, make: Callable[..., Worker], work: Begin
) -> None:
    effect = scripted.offer("k")
    scripted.plan("result", "drop", "lose", problem(503, "not_written"), "drop", "drop", "drop")
    worker = make()
    worker.task("k")(lambda task: 1)
    work(worker)
    scripted.until(lambda: len(scripted.asked("result")) == 7)
    assert len(effect.posts) == 1


def raising(error: BaseException) -> Callable[[Attempt], Any]:
    def function(task: Attempt) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "status", "name", "retryable"),
    [
        (raising(ValueError("no")), "error", "ValueError", None),
        (raising(Final("never", data={"n": 1})), "error", "Final", False),
        (raising(Unknown("cut off", evidence={"sent": 9})), "unknown", "Unknown", None),
        (raising(SystemExit(3)), "unknown", "SystemExit", None),
        (raising(Stopped()), "unknown", "Stopped", None),
        (lambda task: object(), "unknown", "ValueUnreadable", None),
        (lambda task: float("nan"), "unknown", "ValueUnreadable", None),
        (lambda task: "\ud800", "unknown", "ValueUnreadable", None),
    ],
)
def test_how_a_function_ends_is_what_is_posted(
    scripted: Scripted,
    make: Callable[..., Worker],
    work: Begin,
    function: Callable[[Attempt], Any],
    status: str,
    name: str,
    retryable: Any,
) -> None:
    effect = scripted.offer("k")
    worker = make()
    worker.task("k")(function)
    work(worker)
    post = settled(scripted, effect)
    assert (post["status"], post["error"]["name"]) == (status, name)
    assert post["error"].get("retryable") is retryable
    assert "value" not in post
    if name == "ValueError":
        assert "in function" in post["error"]["stack"]
    if name == "Final":
        assert post["error"]["data"] == {"n": 1}
    if name == "Unknown":
        assert post["error"]["data"] == {"sent": 9}


def test_what_did_not_begin_is_released(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    worker = make()

    @worker.task("k")
    def function(task: Attempt) -> Any:
        if task.epoch < 3:
            raise NotBegun("no room")
        return "done"

    work(worker)
    assert settled(scripted, effect)["epoch"] == 3
    assert [(r["epoch"], r["began"], r["reason"]) for r in effect.releases] == [
        (1, False, "no room"),
        (2, False, "no room"),
    ]


@pytest.mark.parametrize(("directive", "kind"), [("cancel", Cancelled), ("stop", Stopped)])
def test_a_directive_is_raised_in_the_code_and_ends_its_children(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, directive: str, kind: type
) -> None:
    effect = scripted.offer("k")
    worker = make(ttl=0.3)
    seen: "list[Any]" = []

    @worker.task("k")
    def function(task: Attempt) -> Any:
        child = task.spawn(["sleep", "1000"])
        with scripted.changed:
            effect.directive = directive
        try:
            child.wait()
            while True:
                time.sleep(0.001)
        except BaseException as stopped:
            child.wait()
            seen.append(type(stopped))
            with pytest.raises(ProcessLookupError):
                os.kill(child.pid, 0)
            raise

    work(worker)
    post = settled(scripted, effect)
    assert (post["status"], post["error"]["name"]) == ("unknown", "Stopped")
    assert seen == [kind]


def test_what_a_cancelled_function_reports_counts(
    scripted: Scripted, make: Callable[..., Worker], work: Begin
) -> None:
    effect = scripted.offer("k")
    worker = make(ttl=0.3)

    @worker.task("k")
    def function(task: Attempt) -> Any:
        with scripted.changed:
            effect.directive = "cancel"
        try:
            task.sleep(PATIENCE)
        except Cancelled:
            raise Final("undone") from None

    work(worker)
    assert settled(scripted, effect)["error"]["message"] == "undone"


def test_a_stale_lease_stops_the_code_and_its_outcome_does_not_count(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    worker = make(ttl=0.3)
    stopped = threading.Event()

    @worker.task("k")
    def function(task: Attempt) -> Any:
        with scripted.changed:
            # Somebody declared it lost, and another worker has it.
            effect.epoch, effect.worker, effect.claim_id = 2, "other", None
        try:
            task.sleep(PATIENCE)
        except Stopped:
            stopped.set()
            return "too late"

    work(worker)
    assert stopped.wait(PATIENCE)
    scripted.until(lambda: effect.stale)
    assert effect.stale[0]["value"] == "too late", "it is offered as evidence"
    assert effect.posts == [] and effect.state == "started"


def test_heartbeats_go_on_while_the_code_works_and_carry_progress(
    scripted: Scripted, make: Callable[..., Worker], work: Begin
) -> None:
    effect = scripted.offer("k")
    scripted.plan("tasks/heartbeat", "drop", problem(503, "shutting_down"))
    worker = make(ttl=0.15)

    @worker.task("k")
    def function(task: Attempt) -> Any:
        task.progress(50, "half")
        scripted.until(lambda: effect.beats >= 4)
        return effect.progress

    work(worker)
    assert settled(scripted, effect)["value"] == {"percent": 50, "label": "half"}


def test_as_many_at_a_time_as_it_was_told(
    scripted: Scripted, make: Callable[..., Worker], work: Begin
) -> None:
    effects = [scripted.offer("k") for _ in range(5)]
    worker = make(concurrency=2)
    gate, inside = threading.Semaphore(0), []

    @worker.task("k")
    def function(task: Attempt) -> Any:
        inside.append(task.effect_id)
        with scripted.changed:
            scripted.changed.notify_all()
        gate.acquire()

    work(worker)
    scripted.until(lambda: len(inside) == 2)
    assert sum(effect.state == "started" for effect in effects) == 2
    for _ in effects:
        gate.release()
    for effect in effects:
        settled(scripted, effect)


def test_an_outcome_that_is_refused_is_kept_and_said_to_be_unknown(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    scripted.plan("result", problem(422, "value_invalid"))
    worker = make()
    worker.task("k")(lambda task: "not what was wanted")
    work(worker)
    post = settled(scripted, effect)
    assert (post["status"], post["error"]["name"]) == ("unknown", "OutcomeRefused")
    assert post["epoch"] == 1
    scripted.until(lambda: (tmp_path / "outbox" / "refused" / "r1.e0001.1.json").exists())


def test_a_token_that_is_not_good_ends_the_worker(
    scripted: Scripted, make: Callable[..., Worker]
) -> None:
    scripted.plan("claim", problem(401, "unauthenticated"))
    worker = make()
    worker.task("k")(lambda task: 1)
    with pytest.raises(Problem, match="unauthenticated"):
        worker.run()


def test_a_name_belongs_to_one_worker_at_a_time(
    scripted: Scripted, make: Callable[..., Worker], work: Begin
) -> None:
    first, second = make(), make()
    for worker in (first, second):
        worker.task("k")(lambda task: 1)
    work(first)
    scripted.until(lambda: scripted.asked("claim"))
    with pytest.raises(WorkerRuns):
        second.run()
    with pytest.raises(DormouseError, match="no function for other"):
        make(kinds=["other"]).run()
    with pytest.raises(DormouseError, match="needs a name"):
        make("")


# The same name after a crash. The first life is a process of its own, killed for real.

FIRST_LIFE = """
import sys
sys.path.insert(0, {sources!r})
from dormouse import Worker
worker = Worker({url!r}, "w", outbox={outbox!r}, grace=0.2, wait=5.0)

@worker.task("k")
def function(task):
    {code}

worker.run()
"""


def first_life(scripted: Scripted, tmp_path: Path, code: str) -> "subprocess.Popen[bytes]":
    text = FIRST_LIFE.format(
        sources=str(SOURCES), url=scripted.url, outbox=str(tmp_path / "outbox"), code=code
    )
    return subprocess.Popen([sys.executable, "-c", text])


def second_life(make: Callable[..., Worker], work: Begin) -> "list[int]":
    calls: "list[int]" = []
    worker = make()
    worker.task("k")(lambda task: calls.append(task.epoch))
    work(worker)
    return calls


def test_a_result_survives_the_crash_of_its_worker(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    effect = scripted.offer("k", "payload")
    scripted.plan("result", *["drop"] * 3)
    child = first_life(scripted, tmp_path, "return task.args")
    scripted.until(lambda: scripted.asked("result"))
    child.kill()
    child.wait()
    with scripted.changed:
        scripted._plans.clear()
    calls = second_life(make, work)
    assert settled(scripted, effect)["value"] == "payload"
    assert (effect.epoch, calls) == (1, []), "the work was not done again"


def test_what_was_begun_and_not_finished_is_unknown(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    child = first_life(scripted, tmp_path, "task.progress(1); task.sleep(1000)")
    scripted.until(lambda: effect.progress)
    child.kill()
    child.wait()
    calls = second_life(make, work)
    post = settled(scripted, effect)
    assert (post["status"], post["error"]["name"], post["epoch"]) == ("unknown", "WorkerLost", 1)
    assert calls == []


def test_what_was_taken_and_not_begun_is_released(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    with scripted.changed:
        effect.state, effect.epoch, effect.worker = "started", 1, "w"
    calls = second_life(make, work)
    settled(scripted, effect)
    assert effect.releases[0]["began"] is False
    assert (effect.epoch, calls) == (2, [2])


def test_a_result_that_comes_after_the_lease_is_offered_all_the_same(
    scripted: Scripted, make: Callable[..., Worker], work: Begin, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    scripted.plan("result", *["drop"] * 3)
    child = first_life(scripted, tmp_path, "return 7")
    scripted.until(lambda: scripted.asked("result"))
    child.kill()
    child.wait()
    with scripted.changed:
        scripted._plans.clear()
        effect.state = "uncertain"
    second_life(make, work)
    assert settled(scripted, effect)["value"] == 7


def test_sigterm_lets_the_work_end_and_takes_nothing_more(
    scripted: Scripted, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    code = "task.progress(1); import time; time.sleep(0.1); return 'done'"
    child = first_life(scripted, tmp_path, code)
    scripted.until(lambda: effect.progress)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(PATIENCE) == 0
    assert effect.posts[0]["value"] == "done"
    assert files(tmp_path) == []


def test_sigterm_in_a_waiting_claim_leaves_nothing_started(
    scripted: Scripted, tmp_path: Path
) -> None:
    child = first_life(scripted, tmp_path, "return 1")
    scripted.until(lambda: scripted.asked("claim"))
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(PATIENCE) == 0


def test_work_that_does_not_end_in_time_is_stopped_and_unknown(
    scripted: Scripted, tmp_path: Path
) -> None:
    effect = scripted.offer("k")
    child = first_life(scripted, tmp_path, "task.progress(1); task.sleep(1000)")
    scripted.until(lambda: effect.progress)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(PATIENCE) == 0
    assert effect.posts[0]["status"] == "unknown"
    assert "the worker stops" in effect.posts[0]["error"]["message"]
