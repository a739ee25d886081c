"""The server's folder: gone when it ends, and swept where another was killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ichseg.page.folders import ServerFolder, folder_for_gradio, sweep
from ichseg.page.sessions import SessionStore


def test_what_a_killed_server_left_is_swept_and_a_running_ones_is_not(tmp_path: Path) -> None:
    running, killed = ServerFolder(tmp_path), ServerFolder(tmp_path)
    (killed.new_private() / "scan.nii").write_bytes(b"voxels")
    killed._lock.close()  # as the system does
    notes = tmp_path / "ichseg-page-notes"  # somebody's own
    notes.mkdir()
    (notes / "notes.txt").write_text("mine")
    os.utime(notes, (0, 0))
    new = ServerFolder(tmp_path)
    assert not killed.path.exists() and running.path.is_dir() and new.path.is_dir()
    running.close()
    new.close()
    assert list(tmp_path.rglob("*")) == [notes, notes / "notes.txt"]


def test_a_server_killed_while_it_sweeps_or_starts_leaves_nothing_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = ServerFolder(tmp_path)
    (left.uploads / "scan.nii").write_bytes(b"voxels")
    left._lock.close()
    (starting := tmp_path / "ichseg-page-starting").mkdir()
    (killed := tmp_path / "ichseg-page-killed").mkdir()
    os.utime(killed, (0, 0))

    def killed_after_one(path: Path, **_: Any) -> None:
        delete(path)
        raise SystemExit

    with monkeypatch.context() as patch:
        delete = shutil.rmtree
        patch.setattr(shutil, "rmtree", killed_after_one)
        with pytest.raises(SystemExit):
            sweep(tmp_path)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [starting]


def test_an_upload_that_nobody_opened_is_swept_by_the_clock(tmp_path: Path) -> None:
    store = SessionStore(folder=ServerFolder(tmp_path))
    place = store.folder.uploads / "hash"
    place.mkdir()
    (place / "scan.nii").write_bytes(b"voxels")
    store.sweep()
    assert (place / "scan.nii").is_file()
    store.folder.sweep_uploads(older_than_seconds=-1)
    store.folder.sweep_uploads(older_than_seconds=-1)
    assert not place.exists() and store.folder.uploads.is_dir()
    store.close()


def test_gradio_puts_its_files_into_the_servers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = folder_for_gradio()
    assert folder.path.parent == tmp_path and os.environ["GRADIO_TEMP_DIR"] == str(folder.uploads)
    folder.close()
    folder.close()  # as whoever stops in the middle of it
    assert not list(tmp_path.iterdir())
