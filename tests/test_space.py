"""The upload to a Space: which files, from where, and what is said when it cannot be done."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from huggingface_hub.utils import filter_repo_objects


@pytest.fixture(scope="module")
def space(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("space", root / ".ci" / "space.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(tmp_path: Path, space: ModuleType) -> Path:
    """A git checkout: what a Space needs, tracked files it must not get, an untracked scan."""
    tracked = [
        *space.REQUIRED,
        "ichseg/page/viewer/draw.js",
        "weights/litemedsam/model.safetensors",
        "tests/test_page.py",
        "train/adapter.py",
        "Makefile",
    ]
    for name in [*tracked, "ichseg/sample/patient.nii.gz", ".venv/app.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", *tracked], check=True)
    return tmp_path


def test_only_tracked_files_of_the_demo_are_chosen(space: ModuleType, clone: Path) -> None:
    assert space.space_files(clone) == [
        "README.md",
        "app.py",
        "ichseg/page/viewer/draw.js",
        "requirements.txt",
        "weights/litemedsam/model.safetensors",
        "weights/manifest.json",
    ]


def test_a_file_deleted_from_the_checkout_is_not_chosen(space: ModuleType, clone: Path) -> None:
    (clone / "ichseg/page/viewer/draw.js").unlink()
    assert "ichseg/page/viewer/draw.js" not in space.space_files(clone)


def test_a_missing_required_file_is_named(space: ModuleType, clone: Path) -> None:
    (clone / "weights/manifest.json").unlink()
    with pytest.raises(ValueError, match=r"got no weights/manifest\.json; commit what is missing"):
        space.space_files(clone)


def test_a_folder_without_git_is_refused(space: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run it from a clone"):
        space.space_files(tmp_path)


@pytest.mark.parametrize("text", ["", "jane", "jane/", "/head-ct", "a/b/c", "jane/head ct"])
def test_a_name_that_is_not_owner_and_name_is_refused(
    space: ModuleType, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert space.main([text]) == 2
    assert f"A Space is named owner/name; got '{text}'; say e.g." in capsys.readouterr().err


def test_make_dry_run_lists_every_file_and_uploads_nothing(root: Path) -> None:
    """As a person types it; without the network, and before anything is installed."""
    run = subprocess.run(
        ["make", "space", "SPACE=jane/head-ct", "--dry-run", f"PYTHON={sys.executable}"],
        cwd=root, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HF_ENDPOINT": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    listed = {
        match[1]
        for line in run.stdout.splitlines()
        if (match := re.match(r" *[\d,]+  (\S+)$", line))
    }
    assert {"app.py", "README.md", "requirements.txt", "weights/manifest.json"} <= listed
    assert "weights/litemedsam/model.safetensors" in listed
    assert not [name for name in listed if name.startswith(("tests/", "train/", "."))]
    assert "would go to jane/head-ct; nothing was uploaded." in run.stdout


def test_what_is_uploaded_is_what_the_dry_run_lists(
    space: ModuleType, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        def create_repo(self, repo_id: str, **options: Any) -> str:
            calls.append((repo_id, options))
            return f"https://huggingface.co/spaces/{repo_id}"

        def upload_folder(self, **options: Any) -> None:
            calls.append((options["repo_id"], options))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    files = space.space_files(clone)
    assert space.upload("jane/head-ct", files, clone).endswith("/spaces/jane/head-ct")

    (_, created), (_, uploaded) = calls
    assert created == {"repo_type": "space", "space_sdk": "gradio", "exist_ok": True}
    assert uploaded["repo_type"] == "space" and uploaded["folder_path"] == clone
    everything = [str(path.relative_to(clone)) for path in clone.rglob("*") if path.is_file()]
    taken = filter_repo_objects(everything, allow_patterns=uploaded["allow_patterns"])
    assert sorted(taken) == files


def test_an_upload_that_fails_says_why_in_one_line(
    space: ModuleType,
    clone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> str:
        raise OSError("401 Client Error\nRequest ID: 1")

    monkeypatch.setattr(space, "ROOT", clone)
    monkeypatch.setattr(space, "space_files", lambda: ["app.py"])
    monkeypatch.setattr(space, "upload", refuse)
    assert space.main(["jane/head-ct"]) == 1
    assert capsys.readouterr().err == (
        "The upload to jane/head-ct needs the internet and a login that may write there; "
        "got: 401 Client Error; run 'hf auth login' and try again.\n"
    )


def front_matter(root: Path) -> dict[str, str]:
    """The README's settings for the Space (flat ``key: value`` lines between the two rules)."""
    block = (root / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    return dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)


def test_the_front_matter_agrees_with_the_repository(root: Path) -> None:
    settings = front_matter(root)
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (root / "requirements.txt").read_text(), re.M))
    assert settings["sdk"] == "gradio"
    assert settings["sdk_version"] == pins["gradio"]
    assert (root / settings["app_file"]).is_file()
    assert settings["python_version"].strip('"') == "3.11"
    assert settings["suggested_hardware"] == "t4-small"
    assert settings["license"] == "apache-2.0"
    assert len(settings["short_description"]) <= 60  # the hub refuses a longer one
