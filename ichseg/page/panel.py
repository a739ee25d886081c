"""What a panel is to Python: the operations that it answers, what it adds in passing, and its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ichseg.page.case import Case
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work
from ichseg.scan.volume import CTVolume


@dataclass(frozen=True)
class Operation:
    """What a person asks for: its name in the message, the dataclass of its fields, and what answers it.

    ``answer`` changes the session, writes what changed into the reply, and may give replies that tell of progress. It
    raises InputError for what cannot be done. ``opens`` says that it needs no open scan.
    """

    name: str
    fields: type[Any]
    answer: Callable[[Work, Session, Any, Reply], Iterable[Reply]]
    opens: bool = False


@dataclass(frozen=True)
class Seen:
    """What a request in passing is about: an open scan and the slice on screen."""

    case: Case
    volume: CTVolume
    k: int


@dataclass(frozen=True)
class InPassing:
    """What a panel shows that nobody waits for: its key in the request, the kind of its value, and what answers it.

    ``answer`` returns what the reply gets. It is not asked for a value that is false, such as null.
    """

    name: str
    kind: Any
    answer: Callable[[Work, Session, Seen, Any], Reply]


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Panel:
    """A panel of the page.

    ``folder`` may hold ``panel.js``, ``panel.html`` and ``panel.css`` beside the panel's Python. ``always`` has what a
    message may ask for with any answer, by its key in the message, such as the growth while that panel is open;
    ``unopened`` what a request in passing may ask for without an open scan. ``fills`` makes what stands in its markup
    in place of ``<!-- fill: NAME -->``, such as what a table has a row for. ``is_on`` says whether it is there at all
    on this server; one that is not shows nothing and answers nothing.
    """

    name: str
    title: str
    folder: Path
    operations: tuple[Operation, ...] = ()
    passing: tuple[InPassing, ...] = ()
    always: Mapping[str, Callable[[Session], Reply]] = field(default_factory=dict)
    unopened: Mapping[str, Callable[[], Reply]] = field(default_factory=dict)
    fills: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    is_on: Callable[[], bool] = _always
