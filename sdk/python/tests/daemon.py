"""The real daemon, started for a test."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

TOP = Path(__file__).resolve().parents[3]


def binary() -> Path:
    """The program under test: ``$DORMOUSE_BIN``, or what ``cargo build`` made."""
    named = os.environ.get("DORMOUSE_BIN")
    path = Path(named) if named else TOP / "target" / "debug" / "dormouse"
    assert path.exists(), f"{path} is not there: run `cargo build` first"
    return path


class Daemon:
    """``dormouse serve`` with a TCP port, and a token that may do everything."""

    def __init__(self, root: Path, place: Path) -> None:
        self.root, self.place = root, place
        self._process: Optional["subprocess.Popen[str]"] = None
        self.url = ""
        self.token = ""

    def command(self, *words: str) -> Dict[str, Any]:
        """What a command prints as JSON."""
        ran = subprocess.run(
            [binary(), "--runs-root", self.root, "--json", *words],
            capture_output=True, text=True, timeout=60, env=self._env(), check=False,
        )
        assert ran.returncode == 0, ran.stderr
        told: Dict[str, Any] = json.loads(ran.stdout)
        return told

    def start(self, listen: str = "127.0.0.1:0", more: Sequence[str] = ()) -> None:
        """Starts it, and waits until it is ready."""
        self._process = subprocess.Popen(
            [binary(), "--runs-root", self.root, "--json", "serve", "--listen", listen, *more],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._env(),
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.url = f"http://{told['listen']}"

    def stop(self) -> None:
        """Ends it in order."""
        assert self._process is not None
        self._process.terminate()
        out, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, (out, err)

    def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate(timeout=60)

    def module(self, text: str, name: str = "process.js") -> Path:
        """A process module."""
        path = self.place / name
        path.write_text(text, encoding="utf-8")
        return path

    def _env(self) -> Dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.place)}
