"""The distributions: what they are called, what they need, what their texts promise."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

import dormouse

SDK = Path(__file__).resolve().parents[2]


def text(name: str) -> str:
    return (SDK / name).read_text(encoding="utf-8")


def test_only_the_standard_library_is_needed() -> None:
    project = text("python/pyproject.toml")
    assert "\ndependencies = []\n" in project
    assert f'version = "{dormouse.__version__}"' in project
    # What is imported and where from; a name that only newer Pythons know counts as foreign.
    standard = getattr(sys, "stdlib_module_names", None)
    if standard is None:
        return
    for path in (SDK / "python/src").glob("**/*.py"):
        found = re.findall(r"^\s*(?:import|from) ([a-z_]+)", path.read_text("utf-8"), re.M)
        assert [name for name in found if name not in standard] == [], path


def test_the_other_module_name_is_a_distribution_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not (SDK / "python/src/aetheris").exists()
    assert re.search(r'^name = "dormouse-sdk-aetheris"$', text("python-aetheris/pyproject.toml"), re.M)
    assert '"Private :: Do Not Upload"' in text("python-aetheris/pyproject.toml")
    monkeypatch.syspath_prepend(str(SDK / "python-aetheris/src"))
    aetheris = importlib.import_module("aetheris")
    client = importlib.import_module("aetheris.client")
    assert aetheris.AetherisClient is client.AetherisClient is dormouse.AetherisClient
    assert aetheris.AetherisError is dormouse.DormouseError
    assert issubclass(aetheris.TimeoutError, aetheris.AetherisError)
    assert aetheris.__all__ == client.__all__
