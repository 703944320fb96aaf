"""One request to a daemon, over TCP or its Unix socket, repeated where that is safe.

May not know routes. Invariant: a request that may have been acted on is repeated only if its
caller said that twice is the same as once.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import time
from typing import Any, Dict, Iterator, Mapping, Optional, Union
from urllib.parse import quote, urlencode, urlsplit

from .problems import DormouseError, Problem, Unreachable, read_problem

Body = Dict[str, Any]
Query = Mapping[str, Union[str, int, float, bool, None]]
Path = Union[str, "os.PathLike[str]"]

#: Tries of one request, and the pauses between them, in seconds.
TRIES_MAX = 5
PAUSE_FIRST = 0.1
PAUSE_MAX = 2.0
#: A stream that says nothing for three of the daemon's comments is dead.
STREAM_SILENCE_MAX = 45.0


class Line:
    """A request under way, which another thread or a signal handler may end."""

    def __init__(self) -> None:
        self._socket: Optional[socket.socket] = None
        self._over = False

    def hang_up(self) -> None:
        """Ends the request. It fails as unreachable."""
        # No lock: a signal handler may interrupt the thread that is in `attach`.
        self._over = True
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has ended by itself.

    def attach(self, sock: Optional[socket.socket]) -> None:
        """Names the socket that is to be shut."""
        self._socket = sock
        if self._over and sock is not None:
            raise Unreachable("the request was given up", sent=False)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Stream:
    """Lines of an answer that does not end by itself."""

    def __init__(self, sock: socket.socket, response: http.client.HTTPResponse) -> None:
        self._socket = sock
        self._response = response

    def lines(self, until: Optional[float] = None) -> Iterator[bytes]:
        """Lines as they come, until the stream ends or the clock passes ``until``.

        Raises ``Unreachable`` when the stream breaks, and ``TimeoutError`` when the time is over.
        """
        while True:
            left = STREAM_SILENCE_MAX if until is None else until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(min(left, STREAM_SILENCE_MAX))
            try:
                line = self._response.readline()
            except socket.timeout as silent:
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError from silent
                raise Unreachable("the stream fell silent", sent=True) from silent
            except (OSError, http.client.HTTPException) as broken:
                raise Unreachable(f"the stream broke: {broken}", sent=True) from broken
            if not line:
                return
            yield line

    def close(self) -> None:
        """Lets the connection go."""
        self._response.close()
        self._socket.close()


class Wire:
    """Where a daemon is, and how to ask it."""

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        timeout: float = 30.0,
        runs_root: Optional[Path] = None,
    ) -> None:
        if runs_root is not None:
            if url is not None:
                raise DormouseError("give a url or a runs root, not both")
            root = os.path.abspath(os.path.expanduser(os.fspath(runs_root)))
            url = "unix://" + os.path.join(root, ".dormouse", "socket")
        self.url = url or "http://localhost:8080"
        self.timeout = timeout
        self._token = token
        self._parts = urlsplit(self.url)
        if self._parts.scheme not in ("http", "https", "unix"):
            raise DormouseError(f"{self.url} is no http://, https:// or unix:// address")

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Optional[Query] = None,
        body: Optional[Body] = None,
        content: Optional[bytes] = None,
        headers: Optional[Mapping[str, str]] = None,
        repeatable: bool = False,
        timeout: Optional[float] = None,
        line: Optional[Line] = None,
        tries: int = TRIES_MAX,
    ) -> Any:
        """The JSON that the daemon answers. ``content`` is sent as it is, instead of a ``body``.

        ``repeatable`` says that the request may reach the daemon twice. Raises ``Problem`` or
        ``Unreachable``.
        """
        target, sent = _target(path, query), encode(body) if content is None else content
        if content is not None:
            headers = {"Content-Type": "application/octet-stream", **(headers or {})}
        timeout = self.timeout if timeout is None else timeout
        for tried in range(1, tries + 1):
            try:
                return self._once(method, target, sent, headers or {}, timeout, line)
            except Unreachable as failed:
                if tried == tries or line is not None or (failed.sent and not repeatable):
                    raise
                pause = 0.0
            except Problem as problem:
                safe = problem.retryable and (problem.nothing_done or repeatable)
                if tried == tries or line is not None or not safe:
                    raise
                pause = min(problem.retry_after or 0.0, PAUSE_MAX)
            time.sleep(max(pause, backoff(tried, PAUSE_MAX)))
        raise AssertionError("the last try returns or raises")

    def stream(self, path: str, query: Query, headers: Mapping[str, str]) -> Stream:
        """Opens a stream of server-sent events."""
        connection = self._connection(self.timeout)
        headers = {**headers, "Accept": "text/event-stream"}
        response = self._send(connection, "GET", _target(path, query), None, headers, None)
        sock = connection.sock
        kind = response.headers.get_content_type()
        if response.status == 200 and kind == "text/event-stream" and sock is not None:
            return Stream(sock, response)
        try:
            body = response.read()
        except (OSError, http.client.HTTPException):
            body = b""
        connection.close()
        if response.status == 200:
            raise DormouseError(f"{path} is answered with {kind}, not with a stream")
        raise read_problem(response.status, body, response.headers.get("Retry-After"))

    def _once(
        self,
        method: str,
        target: str,
        body: Optional[bytes],
        headers: Mapping[str, str],
        timeout: float,
        line: Optional[Line],
    ) -> Any:
        connection = self._connection(timeout)
        headers = {**headers, "Connection": "close"}
        try:
            response = self._send(connection, method, target, body, headers, line)
            try:
                answer = response.read()
            except (OSError, http.client.HTTPException) as broken:
                raise Unreachable(f"the answer broke off: {broken}", sent=True) from broken
            if response.status >= 300:
                raise read_problem(response.status, answer, response.headers.get("Retry-After"))
            return json.loads(answer) if answer else {}
        except ValueError as nonsense:
            raise Unreachable(f"the answer is no JSON: {nonsense}", sent=True) from nonsense
        finally:
            if line is not None:
                line.attach(None)
            connection.close()

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: Optional[bytes],
        headers: Mapping[str, str],
        line: Optional[Line],
    ) -> http.client.HTTPResponse:
        """Connects, sends, and reads the head of the answer."""
        try:
            connection.connect()
        except OSError as refused:
            raise Unreachable(f"no daemon at {self.url}: {refused}", sent=False) from refused
        try:
            if line is not None:
                line.attach(connection.sock)
            connection.request(method, target, body, self._headers(body, headers))
            # Held beyond the answer's head: http.client forgets it when the connection closes.
            sock = connection.sock
            response = connection.getresponse()
            connection.sock = connection.sock or sock
            return response
        except (OSError, http.client.HTTPException) as broken:
            connection.close()
            raise Unreachable(f"no answer from {self.url}: {broken!r}", sent=True) from broken
        except Unreachable:
            connection.close()
            raise

    def _headers(self, body: Optional[bytes], more: Mapping[str, str]) -> Dict[str, str]:
        headers = {"Accept": "application/json", **more}
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        parts = self._parts
        if parts.scheme == "unix":
            return _UnixConnection(parts.netloc + parts.path, timeout)
        host = parts.hostname or "localhost"
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, parts.port, timeout=timeout)
        return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout)


def encode(body: Any) -> Optional[bytes]:
    """JSON as it is sent. Raises ``ValueError`` or ``TypeError`` for what JSON has no word for."""
    if body is None:
        return None
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def segment(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")


def given(**members: Any) -> Body:
    """Those members that are not ``None``."""
    return {name: value for name, value in members.items() if value is not None}


def backoff(tried: int, most: float) -> float:
    """A pause, in seconds, that grows with the tries and differs between programs."""
    longest: float = min(most, PAUSE_FIRST * 2 ** min(tried - 1, 20))
    return longest * random.uniform(0.5, 1.0)


def _target(path: str, query: Optional[Query]) -> str:
    def text(value: Union[str, int, float, bool]) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    pairs = [(name, text(value)) for name, value in (query or {}).items() if value is not None]
    return path + "?" + urlencode(pairs) if pairs else path
