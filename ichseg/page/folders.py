"""The server's folder of temporary files: its own alone, gone when it ends, and swept where another was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ichseg.file_lock import hold, is_held

_PREFIX = "ichseg-page-"
_LOCK = "lock"

#: A folder that has had no lock for this long is no starting server's.
_STARTING_SECONDS = 60.0

#: An upload that nobody opened is deleted after this time: a page asks for it as soon as it is there.
UNOPENED_SECONDS = 3600.0


class ServerFolder:
    """A folder of a running server, with ``uploads``, where uploads arrive, and ``public``, which alone is served.

    Whoever runs holds a lock on a file in it. What a killed server left is known by nobody holding its lock, and is
    deleted when the next one starts in the same place; the lock itself at the end, for that one may be killed, too.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).resolve()
        self._lock = (self.path / _LOCK).open("wb")
        hold(self._lock.fileno())
        self.uploads, self.public = self.path / "uploads", self.path / "public"
        self.uploads.mkdir()
        self.public.mkdir()

    def new_private(self) -> Path:
        """A folder that is never served."""
        return Path(tempfile.mkdtemp(dir=self.path))

    def new_public(self) -> Path:
        """A folder below ``public`` with a name that cannot be guessed."""
        return Path(tempfile.mkdtemp(dir=self.public))

    def sweep_uploads(self, older_than_seconds: float = UNOPENED_SECONDS) -> None:
        """Delete uploads that nobody opened; what is opened is moved away from there."""
        limit = time.time() - older_than_seconds
        for path in list(self.uploads.rglob("*")):
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime < limit:
                    path.unlink()
                elif path.is_dir() and path.stat().st_mtime < limit:
                    path.rmdir()  # which is done for an empty one alone

    def sweep_broken_uploads(self) -> None:
        """Delete what uploads that broke off have left. For when none is under way: a whole one has a folder."""
        for path in self.uploads.glob("*"):  # none once the server has ended
            with suppress(OSError):
                if path.is_file():
                    path.unlink()

    def close(self) -> None:
        """Delete all of it."""
        self._lock.close()
        _delete(self.path)


def folder_for_gradio() -> ServerFolder:
    """A folder in GRADIO_TEMP_DIR, else in the system's temporary one, where Gradio's own temporary files go, too.

    Gradio looks where they are to go when it is imported, and again when it starts: make the folder before.
    """
    given = os.environ.get("GRADIO_TEMP_DIR")
    folder = ServerFolder(Path(given) if given else None)
    os.environ["GRADIO_TEMP_DIR"] = str(folder.uploads)
    return folder


def sweep(parent: Path) -> None:
    """Delete the folders of servers in ``parent`` that no longer run."""
    for folder in parent.glob(f"{_PREFIX}*"):
        lock = folder / _LOCK
        with suppress(OSError):
            if lock.is_file():
                if not is_held(lock):
                    _delete(folder)
            elif folder.stat().st_mtime < time.time() - _STARTING_SECONDS:
                folder.rmdir()  # killed before it had a lock, or at the end of ``_delete``; refused where not empty


def _delete(folder: Path) -> None:
    """Delete a server's folder, and the lock by which it is known only when the rest is gone."""
    for path in folder.glob("*"):  # none where it is gone
        if path.name != _LOCK:
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
