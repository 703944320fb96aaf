"""Requests: where they go, and which are repeated."""

from __future__ import annotations

import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from scripted import Scripted, problem

from dormouse import Client, Conflict, DormouseError, NotFound, Problem, Unreachable
from dormouse.sse import Message, messages
from dormouse.wire import Wire


def test_making_a_client_sends_nothing() -> None:
    assert repr(Client()) == "Client('http://localhost:8080')"
    assert Client(runs_root="/r").wire.url == "unix:///r/.dormouse/socket"
    with pytest.raises(DormouseError):
        Client("http://localhost", runs_root="/r")
    with pytest.raises(DormouseError):
        Client("ftp://localhost")


def test_nobody_there_is_unreachable_and_nothing_was_sent(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        Wire(runs_root=tmp_path).ask("GET", "/v1/version", tries=2)
    assert not caught.value.sent


def test_a_request_over_the_unix_socket(tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version":"%s"}' % self.path.encode())

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "socket"

    path = tmp_path / "s"
    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert Client(f"unix://{path}").version() == {"version": "/v1/version"}
        server.shutdown()


def test_a_token_is_sent(scripted: Scripted) -> None:
    Client(scripted.url, "secret").health()
    assert scripted.headers[0]["authorization"] == "Bearer secret"


def test_an_answer_that_was_lost_is_asked_for_again(scripted: Scripted) -> None:
    effect = scripted.offer("k")
    client = Client(scripted.url)
    scripted.plan("claim", "lose", "drop")
    task = client.tasks.claim("w", ["k"], claim_id="c", wait=0).tasks[0]
    assert (task.epoch, effect.epoch) == (1, 1), "started once"
    scripted.plan("result", "lose", problem(503, "unknown_outcome"))
    assert client.tasks.post("r1", "e0001", "ok", 5, epoch=1)["repeat"] is True
    assert len(scripted.asked("result")) == 3
    assert len(effect.posts) == 1


def test_what_may_not_happen_twice_is_not_repeated(scripted: Scripted) -> None:
    scripted.offer("k")
    scripted.plan("claim", "lose")
    with pytest.raises(Unreachable) as caught:
        Client(scripted.url).tasks.claim("w", ["k"], wait=0)
    assert caught.value.sent
    assert len(scripted.asked("claim")) == 1


def test_problems_say_what_they_are(scripted: Scripted) -> None:
    client = Client(scripted.url)
    with pytest.raises(NotFound) as missing:
        client.tasks.post("r1", "e0009", "ok", 1)
    assert (missing.value.code, missing.value.status) == ("effect_unknown", 404)
    scripted.offer("k")
    with pytest.raises(Conflict) as stale:
        client.tasks.post("r1", "e0001", "ok", 1, epoch=7)
    assert stale.value.members["currentEpoch"] == 0
    scripted.plan("health", (400, {"error": "no", "code": "message_required"}))
    with pytest.raises(Problem) as peer:
        client.health()
    assert (peer.value.code, peer.value.detail) == ("message_required", "no")
    assert len(scripted.asked("health")) == 1, "a mistake is not repeated"


def test_a_message_of_a_stream_is_whole_or_nothing() -> None:
    lines = b": hello\n\nid: 4\nevent: A\ndata: {\ndata:  }\n\nid: 5\ndata: cut off"
    told = list(messages(line + b"\n" for line in lines.split(b"\n")[:-1]))
    assert told == [Message("4", "A", "{\n }")]
