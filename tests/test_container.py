"""The container's file, as far as it can be held without Docker: what it copies is there, and what it starts runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def steps(root: Path) -> list[tuple[str, str]]:
    """(Instruction, rest) of the Dockerfile, lines that go on joined."""
    text = (root / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def copied(steps: list[tuple[str, str]]) -> list[str]:
    return [name for word, rest in steps if word == "COPY" for name in shlex.split(rest)[:-1]]


def test_all_that_is_copied_is_there_and_goes_to_the_builder(
    root: Path, steps: list[tuple[str, str]]
) -> None:
    names = copied(steps)
    assert {"app.py", "ichseg", "weights", "requirements.txt"} <= set(names)
    assert "requirements-archive.txt" in names  # which the page needs once an archive is named
    assert not [name for name in names if not (root / name).exists()]
    kept = (root / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert kept[1] == "*"  # nothing else: no scan, key or environment of the checkout
    assert {line[1:] for line in kept if line.startswith("!")} == set(names)


def test_an_ordinary_user_starts_the_page_and_the_check_asks_for_its_health(
    steps: list[tuple[str, str]],
) -> None:
    words = [word for word, _ in steps]
    last = dict(steps)
    assert last["USER"] == "page" and words.index("USER") < words.index("CMD")
    assert not [rest for word, rest in steps[words.index("USER") :] if word in ("RUN", "COPY")]
    assert json.loads(last["CMD"]) == ["python", "app.py"]
    port = re.search(r"GRADIO_SERVER_PORT=(\d+)", last["ENV"])
    assert port is not None and last["EXPOSE"] == port[1]
    assert f"http://127.0.0.1:{port[1]}/gradio_api/health" in last["HEALTHCHECK"]


def test_it_installs_what_is_pinned(root: Path, steps: list[tuple[str, str]]) -> None:
    (installs,) = (rest for word, rest in steps if word == "RUN" and "pip install" in rest)
    assert installs.endswith(
        "pip install --no-cache-dir -r requirements.txt -r requirements-archive.txt"
    )
    pattern = re.search(r"grep -o '(\S+)' requirements.txt", installs)
    assert pattern is not None
    text = (root / "requirements.txt").read_text(encoding="utf-8")
    assert re.findall(pattern[1], text, re.MULTILINE) == re.findall(
        r"^torch==[\d.]+", text, re.MULTILINE
    )
