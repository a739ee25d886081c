"""Compiled models kept on disk, in a folder of this user's: weights in another form, and nothing of anybody's scan."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import platformdirs

from ichseg.errors import InputError
from ichseg.replace_file import sweep_parts, write_whole

#: Another place for ``cache_folder``.
CACHE_VARIABLE = "ICHSEG_CACHE"

#: Compiled parts kept: three a model, of which adapters share one; 28 MB is the largest.
MOST_COMPILED = 16

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where compiled models are kept: ICHSEG_CACHE, else ``ichseg`` where this system keeps its user's caches."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else platformdirs.user_cache_path("ichseg", appauthor=False)


class CompiledCache:
    """Compiled models in a folder that nobody else can write to, each with its hash in front.

    A folder that cannot be used is no error: the model is then compiled at every start.
    """

    def __init__(self, folder: Path, most: int = MOST_COMPILED) -> None:
        self.folder = folder
        self.most = most

    def read(self, key: str) -> bytes | None:
        """What was written under a key, if it is there and whole."""
        path = self._path(key)
        try:
            if not self._is_private():
                return None
            data = path.read_bytes()
            os.utime(path)  # the least recently used goes first
        except OSError:
            return None
        digest, blob = data[:32], data[32:]
        return blob if hashlib.sha256(blob).digest() == digest else None

    def write(self, key: str, blob: bytes) -> None:
        """Keep a compiled model under a key, and drop the least recently used above the most that are kept."""
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._is_private():
                _log.warning("compiled models are not kept: others can write to the cache's folder")
                return
            sweep_parts(self.folder)
            write_whole(path, hashlib.sha256(blob).digest() + blob)
            kept = sorted(self.folder.glob("*.blob"), key=lambda one: one.stat().st_mtime)
            for old in kept[: -self.most]:
                old.unlink(missing_ok=True)
        except (OSError, InputError) as error:
            _log.warning("compiled models are not kept (%s)", type(error).__name__)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.blob"

    def _is_private(self) -> bool:
        """Whether only this user can put a file there (what is in it is trusted)."""
        if not hasattr(os, "getuid"):
            return self.folder.is_dir()  # Windows keeps a user's folders apart itself
        state = self.folder.stat()
        return state.st_uid == os.getuid() and not state.st_mode & 0o022
