"""What a person can put right: every error here is one sentence of rule, value received and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class InputError(ValueError):
    """Bad input. The text is shown to people as it is, on the page and on the command line."""


class VolumeError(InputError):
    """A scan or a mask that cannot be read, or cannot be written without misplacing voxels."""


class BoxError(InputError):
    """A box that does not lie on the slice it was given for."""


class WeightsError(InputError):
    """A weight file that is absent, or is not the one the manifest promises."""


class LesionError(InputError):
    """A lesion that is not there, that is locked, or that was given a property it cannot have."""


class UnsureError(InputError):
    """A registration of two scans that may not be of one head."""


def refusal(name: str, rule: str, received: str, remedy: str) -> VolumeError:
    """One sentence for the person who gave the file ``name``: rule, value received, remedy."""
    return VolumeError(f"{name}: {rule}, but {received}; {remedy}.")


class Cancelled(BaseException):
    """What is under way was given up. Like KeyboardInterrupt it is no error, so that none who mends errors keeps it."""


_wanted_no_longer: ContextVar[Callable[[], bool] | None] = ContextVar("cancelled", default=None)


@contextmanager
def cancelling(asked: Callable[[], bool] | None) -> Iterator[None]:
    """Have ``check_cancelled`` within the block go by ``asked``, in this thread; None for what goes on to its end."""
    token = _wanted_no_longer.set(asked)
    try:
        yield
    finally:
        _wanted_no_longer.reset(token)


def check_cancelled() -> None:
    """Raise Cancelled where whoever began the work wants it no longer; long work asks at each slice, box and file.

    >>> with cancelling(lambda: True):
    ...     check_cancelled()
    Traceback (most recent call last):
    ichseg.errors.Cancelled
    """
    asked = _wanted_no_longer.get()
    if asked is not None and asked():
        raise Cancelled
