"""Memory that nobody uses any more goes back to the system, where the C library is GNU's and would keep it."""

from __future__ import annotations

import ctypes
from typing import Any

#: Of glibc's <malloc.h>.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8

#: Heaps of the process. glibc makes eight for each core, and what many threads have freed in them lies scattered.
_MOST_HEAPS = 2

#: What is as large as a slice has memory of its own, which goes when it is freed. glibc would raise this to 32 MB.
_OWN_FROM_BYTES = 1 << 20


def _library() -> Any:
    """The C library where it is GNU's, else None."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):  # as on Windows
        return None


_LIBRARY = _library()


def keep_little() -> None:
    """Have the process keep little of what is freed. For its start, before there are threads."""
    if _LIBRARY is not None:
        _LIBRARY.mallopt(_M_ARENA_MAX, _MOST_HEAPS)
        _LIBRARY.mallopt(_M_MMAP_THRESHOLD, _OWN_FROM_BYTES)


def give_back() -> None:
    """Give what was freed back to the system."""
    if _LIBRARY is not None:
        _LIBRARY.malloc_trim(0)
