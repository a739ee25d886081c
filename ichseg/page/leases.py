"""For how long the server keeps what an open page holds: a lease with two clocks, which the page renews."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ichseg.errors import InputError

Clock = Callable[[], float]

#: Variables of the environment that set the two clocks, in seconds.
IDLE_VARIABLE, GONE_VARIABLE = "ICHSEG_IDLE_SECONDS", "ICHSEG_GONE_SECONDS"


@dataclass(frozen=True)
class Terms:
    """When a lease ends. A page renews it every 20 s; every minute where its tab is hidden, as browsers save power."""

    idle_seconds: float = 4 * 3600.0
    """After this long without anything that a person asked for, though the page is there."""
    gone_seconds: float = 30 * 60.0
    """After this long without a word from the page: a laptop that sleeps, another network."""
    spare_seconds: float = 2 * 60.0
    """After this long without a word a page with nothing marked gives way, where all places are taken."""

    @property
    def renew_seconds(self) -> float:
        """How often a page renews its lease, and the server looks whether one has ended."""
        return min(20.0, self.gone_seconds / 4)

    @classmethod
    def from_environment(cls) -> Terms:
        """The defaults, but for what the environment says. Raises InputError for what is no time."""
        given = {}
        for name, variable in (("idle_seconds", IDLE_VARIABLE), ("gone_seconds", GONE_VARIABLE)):
            text = os.environ.get(variable)
            if text is None:
                continue
            try:
                seconds = float(text)
            except ValueError:
                seconds = 0.0
            if not 0 < seconds < float("inf"):
                raise InputError(
                    f"{variable} is a number of seconds above 0; got '{text[:40]}'; correct it or leave it out."
                )
            given[name] = seconds
        return cls(**given)


class Lease:
    """What a page has to say to be heard of: ``token``, which the server issued, and when it was last heard of."""

    def __init__(self, terms: Terms, clock: Clock = time.monotonic) -> None:
        self.token = secrets.token_urlsafe(18)
        self.terms, self._clock = terms, clock
        self._active = self._seen = clock()

    def renew(self) -> None:
        """The page is there."""
        self._seen = self._clock()

    def use(self) -> None:
        """A person asked for something."""
        self._active = self._seen = self._clock()

    @property
    def silent_seconds(self) -> float:
        """How long the page has not been heard of."""
        return self._clock() - self._seen

    @property
    def ended(self) -> Literal["idle", "gone"] | None:
        """Which clock has run out; None while the lease holds."""
        if self.silent_seconds > self.terms.gone_seconds:
            return "gone"
        return "idle" if self._clock() - self._active > self.terms.idle_seconds else None


class Rate:
    """How often a page may ask: so many times at once, and so many a second on average."""

    def __init__(
        self, at_once: float = 600.0, per_second: float = 40.0, clock: Clock = time.monotonic
    ) -> None:
        self._most, self._per_second, self._clock = at_once, per_second, clock
        self._left, self._at = at_once, clock()

    def take(self) -> bool:
        """Whether it may ask once more now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
