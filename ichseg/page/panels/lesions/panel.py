"""The list of lesions: adding, removing, naming, locking and hiding them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ichseg.marks.lesion import UNSPECIFIED
from ichseg.page.panel import Operation
from ichseg.page.protocol import LesionId, Text
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work


@dataclass(frozen=True)
class Add:
    """Add a lesion."""

    type: Text = UNSPECIFIED


@dataclass(frozen=True)
class Change:
    """Change what is given of a lesion."""

    lesion: LesionId
    name: Text | None = None
    type: Text | None = None
    locked: bool | None = None
    visible: bool | None = None


@dataclass(frozen=True)
class Remove:
    """Remove a lesion with its masks."""

    lesion: LesionId


def _add(work: Work, session: Session, op: Add, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        reply["lesion"] = case.segmentation.add_lesion(type=op.type)
    return ()


def _change(work: Work, session: Session, op: Change, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.set_lesion(
            op.lesion, name=op.name, type=op.type, locked=op.locked, visible=op.visible
        )
    return ()


def _remove(work: Work, session: Session, op: Remove, reply: Reply) -> Iterable[Reply]:
    with session.lock, work.showing_changes(session, reply) as (case, _):
        case.segmentation.remove_lesion(op.lesion)
    return ()


OPERATIONS = (
    Operation("lesion_add", Add, _add),
    Operation("lesion_set", Change, _change),
    Operation("lesion_remove", Remove, _remove),
)
