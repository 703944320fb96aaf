"""Server-sent events, as text.

May not know where lines come from. Invariant: a message that was cut off is never handed out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Iterator, List


@dataclass(frozen=True)
class Message:
    """One message: its place, its type and its text."""

    id: str
    event: str
    data: str


def messages(lines: Iterable[bytes]) -> Iterator[Message]:
    """The messages of a stream of lines; comments are left out."""
    place, event = "", ""
    data: List[str] = []
    for raw in lines:
        line = raw.decode("utf-8").rstrip("\r\n")
        if not line:
            if data:
                yield Message(place, event or "message", "\n".join(data))
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "id":
            place = value
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
