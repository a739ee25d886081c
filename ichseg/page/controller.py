"""What the page asks for and what it is answered: plain dictionaries in and out, no Gradio.

The page sends the operations that it has no answer to yet, each with a rising number::

    {"case": token, "slice": k, "busy": bool, "ops": [{"id": 7, "op": "boxes", "slice": 12, "boxes": [...]}, ...]}

and is answered with the number of the last one that was done and what changed::

    {"done": 7, "slices": {"12": {"boxes", "masks", "ml", ...}}, "lesions", "totals", "models", "undo", "redo", ...}

The panels answer the operations (``ichseg.page.panels``). Each declares the fields of its own, and nothing reaches it
that is not of their types and ranges. A slice's state is ``ichseg.page.state``'s. "gone" says that the server no longer
has the scan that the page names; "method" is what a record says of the left pane's method, and a scan's "record" what
it says of the scan: the page keeps what was drawn on a scan that is gone, and writes the record itself.

Operations that were done already are not done twice, so that the page may send them again.

What takes long tells of its progress. ``look`` with {"case": token, "cancel": true} ends what may be cancelled, and
then nothing is changed.

A box is answered at once, without a model's refinement. With ``"first": true`` it is answered by the left pane's
method alone where another would have to embed the slice first: the reply's "later" lists such slices, for which the
page asks ``complete``. A slice's state lists the models of which the refinement still is to come under "rough"; after
350 ms without input the page asks for it in passing (``Controller.aside``) with
``{"case": token, "aside": {"slice": k, "compare": bool, "measure": {...}, "methods": bool}}``, and for what the panels
add to that, such as the comparison's scores and the measures; on a lane of its own that no operation waits for. The "n"
of a slice's state and of a reply rises, so that the page knows which of two answers is the later one.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ichseg.errors import Cancelled, InputError, VolumeError, check_cancelled
from ichseg.page.embeddings import Embeddings
from ichseg.page.folders import ServerFolder
from ichseg.page.jobs import Job
from ichseg.page.leases import Clock, Terms
from ichseg.page.panel import Operation, Panel, Seen
from ichseg.page.panels import PANELS
from ichseg.page.protocol import Aside, Head, Message, parse
from ichseg.page.sessions import Answered, Session, SessionStore
from ichseg.page.work import Reply, Work, check_slice
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.cohort.study import Study

#: How long a refinement waits until nobody asks for anything, before the page is asked to come again.
ASIDE_PATIENCE_SECONDS = 2.0

#: How long the background keeps still once a person has begun to draw.
DRAWING_SECONDS = 4.0

#: Requests of one page that wait for operations: one is usual, and a few where the line broke.
MAX_WAITING = 4

_log = logging.getLogger(__name__)


class _GoneError(VolumeError):
    """The session has no scan by the name that the page gives: the server was restarted, or made room."""


class Controller:
    """Carries out what pages ask for, each on its own session."""

    def __init__(
        self,
        upload_root: Path,
        *,
        folder: ServerFolder | None = None,
        terms: Terms | None = None,
        clock: Clock = time.monotonic,
        embeddings: Embeddings | None = None,
        read: Callable[..., CTVolume] = read_volume,
        panels: tuple[Panel, ...] = PANELS,
        study: Study | None = None,
    ) -> None:
        """``upload_root`` is the folder below which uploaded files arrive; others are refused.

        ``folder`` is where the sessions' files are, ``terms`` and ``clock`` say when a session ends, ``study`` is the
        one whose scans the page opens and corrects.
        """
        self.shared = Work(
            upload_root,
            read,
            embeddings or Embeddings(),
            partial(SessionStore, folder=folder, terms=terms, clock=clock),
            study,
        )
        self.store, self.embeddings = self.shared.store, self.shared.embeddings
        self.panels = tuple(panel for panel in panels if panel.is_on())
        self._operations = {one.name: one for panel in self.panels for one in panel.operations}
        self._closed = threading.Event()

    # What the page's events call

    def work(self, session_hash: str, message: Any, *, gives_way: bool = False) -> Iterator[Reply]:
        """Do the operations of a message, in order; replies tell of progress, the last one of the result.

        The same message sent again while it is under way goes on with the same work, and afterwards gets its answer.
        ``gives_way``: whether this request then leaves the rest, and the result, to the later one.
        """
        self.shared.asked += 1
        wrong: Reply = {"error": None}
        ops: list[_Asked] = []
        session, known = self.store.find(session_hash), False
        try:
            asked = parse(Message, message, "a message")
            known = session is not None and asked.case in session.tokens
            ops = list(self._operations_of(asked, wrong))
            if any(one.opens for one in ops):
                session = self.store.get(session_hash)
            session = session or self.store.guest()
            self._check_rate(session)
            at_work = False
            for step in self._do(session, asked, ops):
                if gives_way and step is _NOT_THE_LATEST:
                    return
                at_work = True
                if step:
                    yield self.shared.told(session, {**step, "done": None}, known=known)
        except (InputError, OSError) as error:
            refused: Reply = {"error": {"text": self._sentence(error)}}
            if session is None:  # there is no place for it: it is not to wait
                refused["done"] = max([one.id for one in ops], default=0)
            refused = {**_nothing(), **refused}
            yield self.shared.told(session or self.store.guest(), refused, known=known, waits=False)
            return
        reply = _nothing()
        if session.answered.ids & {one.id for one in ops}:
            answer = session.answered.reply
            # The page may have heard it, or not.
            reply |= answer if at_work else {"again": answer}
            known = known or "scan" in answer
        if wrong["error"] is not None:
            reply |= wrong
        known = known or asked.case in session.tokens
        yield self.shared.told(session, {**reply, **self._always(session, message)}, known=known)

    def answer(self, session_hash: str, message: Any) -> Reply:
        """``work`` without progress: for what takes a moment."""
        *_, reply = self.work(session_hash, message)
        return reply

    def look(self, session_hash: str, message: Any) -> None:
        """Take note of the slice on screen, and embed it at once where a person has begun to draw; or cancel.

        A hint that wants no answer: one that cannot be meant is passed over.
        """
        session = self.store.find(session_hash)
        if session is None or not session.rate.take():
            return
        session.lease.use()
        try:
            asked = parse(Message, message, "a message")
        except InputError:
            return
        if asked.cancel:
            # A scan that is being opened has no name yet.
            if asked.case in session.tokens or not session.cases:
                session.cancel(_last_of(asked.ops))
            return
        case = session.case
        volume = None if case is None else case.volume
        if case is None or volume is None or case.token != asked.case:
            return
        if not asked.ops:  # every answer has been heard
            session.answered = Answered()
        hu_zyx, k = volume.hu_zyx, asked.slice
        if k >= len(hu_zyx):
            return
        if not asked.busy:
            self.shared.plan(case, volume, k)
        elif session.looking.acquire(blocking=False):
            try:
                self.shared.asked += 1
                self.embeddings.hold(DRAWING_SECONDS)
                for model in case.models:
                    with suppress(InputError):  # the box itself will say so
                        self.shared.masks.embedding(case, volume, model, k)
            finally:
                session.looking.release()

    def aside(self, session_hash: str, message: Any) -> Reply:
        """What nobody waits for: the refinement of one slice's masks, and what the panels show beside it.

        The refinement goes on only as long as nobody waits; what is left stays under "rough".
        """
        session = self.store.find(session_hash) or self.store.guest()
        session.lease.renew()
        reply: Reply = {"slices": {}, "trouble": {}}
        known = False
        # One at a time of a page: the next comes when the page is at rest again.
        if session.rate.take() and session.passing.acquire(blocking=False):
            try:
                asked = parse(Message, message, "a message")
                known = asked.case in session.tokens
                given = asked.aside or {}
                for panel in self.panels:
                    for name, tell in panel.unopened.items():
                        if given.get(name):
                            reply |= tell()
                self._aside(session, asked, given, reply)
                reply |= self._always(session, message)
            except _GoneError:
                reply["gone"] = True
            except (InputError, OSError):
                pass  # an operation will say so
            finally:
                session.passing.release()
        return self.shared.told(session, reply, known=known)

    def renew(self, lease: str) -> bool:
        """A page says that it is there; False where the server no longer holds anything of it."""
        return self.store.renew(lease)

    def release(self, lease: str) -> None:
        """A page says that it is closed."""
        self.store.release(lease)

    def drop(self, session_hash: str) -> None:
        """End a session, with all that belongs to it."""
        self.store.drop(session_hash)

    def sweep(self) -> None:
        """End what nobody comes back to, and what is computed ahead for pages that say nothing."""
        self.store.sweep()
        for case in self.store.silent_cases():
            if not case.is_sample:  # what is the sample's is everybody's
                self.embeddings.unplan(case.owner)

    def keep_house(self) -> None:
        """End what nobody comes back to, now and by the clock, until ``close``."""

        def work() -> None:
            while not self._closed.wait(self.store.terms.renew_seconds):
                self.sweep()

        threading.Thread(target=work, name="housekeeping", daemon=True).start()

    def close(self) -> None:
        """End all sessions, whose files go first, and the work in the background."""
        self._closed.set()
        self.store.close()
        self.embeddings.close()

    # Parts of them

    def _operations_of(self, asked: Message, wrong: Reply) -> Iterator[_Asked]:
        """The operations of a message; what is none goes into ``wrong``."""
        for given in asked.ops:
            try:
                head = parse(Head, given, "an operation")
            except InputError as error:
                wrong["error"] = {"text": str(error)}
                continue
            yield _Asked(
                head.id, head.op, head.case or asked.case, given, self._operations.get(head.op)
            )

    def _check_rate(self, session: Session) -> None:
        """Refuse a page that asks more often than any person can."""
        session.lease.use()
        if not session.rate.take():
            raise InputError(
                "A page asks some 40 times a second at most; this one asks more often; wait a moment and try again."
            )

    def _do(self, session: Session, asked: Message, ops: list[_Asked]) -> Iterator[Reply]:
        """Do the operations that are not done, each once, whoever sends it how often.

        Gives progress, and nothing ({}) where it begins to wait for work, or where a later request waits for it, too.
        """
        ids = frozenset(one.id for one in ops)
        with session.turn:
            if session.waiting >= MAX_WAITING:
                raise InputError(
                    f"A page has one request under way at a time; of this one {session.waiting} wait; reload the page."
                )
            session.waiting += 1
            session.arrived = mine = session.arrived + 1
        try:
            while True:
                with session.turn:
                    job = session.job
                    todo = [one for one in ops if one.id > session.done]
                    if not todo:
                        return
                    if job is None or job.over:
                        steps = self._steps(session, asked, todo)
                        job = session.job = Job(frozenset(one.id for one in todo), steps)
                if not job.ids & ids:  # the page asks for it no longer
                    session.cancel(max(job.ids))
                    job.abandon()
                    with session.turn:
                        session.done = max(session.done, *job.ids)
                    continue
                yield {}
                for step in job.follow(session.is_cancelled):
                    yield step
                    if session.arrived != mine:
                        yield _NOT_THE_LATEST
        finally:
            session.lease.use()
            with session.turn:
                session.waiting -= 1

    def _steps(self, session: Session, asked: Message, todo: list[_Asked]) -> Iterator[Reply]:
        """Do operations in order; gives replies that tell of progress, and leaves the answer in the session."""
        before = session.answered
        sent = frozenset(_ids(asked.ops))
        # What was done of the same message in an earlier attempt, and may not have been heard.
        reply: Reply = {**_nothing(), **(before.reply if before.ids & sent else {})}
        ids = before.ids & sent
        for one in todo:
            if one.id > session.cancelled_to:
                session.cancelled.clear()
            try:
                check_cancelled()
                yield from self._carry_out(session, one, reply)
            except Cancelled:
                gone = {"gone": True, "error": {"text": _GONE}}
                reply |= gone if session.closed else {"cancelled": True}
            except _GoneError as error:
                reply |= {"gone": True, "error": {"text": str(error)}}
            except InputError as error:
                reply["error"] = {"text": self._sentence(error)}
            except Exception as error:
                if session.closed:  # its files went while it was at work
                    reply |= {"gone": True, "error": {"text": _GONE}}
                    continue
                reply["error"] = {"text": self._sentence(error, one.name)}
            finally:
                ids |= {one.id}
                session.answered = Answered(ids, reply)
                session.done = max(session.done, one.id)

    @staticmethod
    def _sentence(error: Exception, operation: str = "") -> str:
        """What people are told of an error; the log has what is nobody's fault but ours."""
        cause = error.__cause__ if isinstance(error, InputError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                "What a page sends, fetches and saves lies on the server's disk; the disk is full; tell whoever runs "
                "the server, or try again later."
            )
        if isinstance(error, InputError):
            return str(error)
        _log.error("operation %s failed", operation, exc_info=error)
        return (
            "Something failed on the server that should not have; "
            "the details are in its log; try again."
        )

    def _carry_out(self, session: Session, one: _Asked, reply: Reply) -> Iterator[Reply]:
        """Do one operation; gives replies that tell of progress."""
        operation = one.operation
        if operation is None:
            raise InputError(
                f"An operation is one of {', '.join(self._operations)}; got '{one.name[:60]}'; reload the page."
            )
        _check_case(session, one.case, operation)
        try:
            fields = parse(operation.fields, one.given, f"the operation '{one.name}'")
        except InputError:
            self._show_again(session, one.given, reply)
            raise
        yield from operation.answer(self.shared, session, fields, reply)

    def _show_again(self, session: Session, given: Mapping[str, Any], reply: Reply) -> None:
        """Put the slice that a refused operation names into the reply: the page may have drawn ahead of the answer."""
        with session.lock, suppress(InputError):
            k = parse(Aside, given, "an operation").slice
            case, volume = self.shared.case(session)
            check_slice(volume, k)
            self.shared.show(case, volume, k, reply)

    def _aside(
        self, session: Session, message: Message, given: Mapping[str, Any], reply: Reply
    ) -> None:
        asked = parse(Aside, given, "a request in passing")
        with session.lock:
            _check_case(session, message.case)
            case, volume = self.shared.case(session)
        check_slice(volume, asked.slice)
        self.shared.masks.refine(
            session,
            case,
            volume,
            asked.slice,
            case.models,
            reply["trouble"],
            ASIDE_PATIENCE_SECONDS,
        )
        with session.lock:
            if session.case is case:
                self.shared.show(case, volume, asked.slice, reply)
        k = asked.slice if asked.at is None else asked.at
        check_slice(volume, k)
        for panel in self.panels:
            for one in panel.passing:
                if given.get(one.name):
                    wanted = parse(one.kind, given[one.name], f"'{one.name}' in passing")
                    reply |= one.answer(self.shared, session, Seen(case, volume, k), wanted)

    def _always(self, session: Session, message: Mapping[str, Any]) -> Reply:
        """What a message asks for with any answer."""
        told: Reply = {}
        with session.lock:
            for panel in self.panels:
                for name, tell in panel.always.items():
                    if message.get(name):
                        told |= tell(session)
        return told


@dataclass(frozen=True)
class _Asked:
    """An operation as it was sent: number, name, scan, fields, and what answers it where something does."""

    id: int
    name: str
    case: str | None
    given: Mapping[str, Any]
    operation: Operation | None

    @property
    def opens(self) -> bool:
        return self.operation is not None and self.operation.opens


#: Said by a request that waits for what a later one of the same page waits for, too.
_NOT_THE_LATEST: Reply = {}


def _nothing() -> Reply:
    """The answer to nothing."""
    return {"slices": {}, "error": None, "trouble": {}}


def _ids(ops: Iterable[Mapping[str, Any]]) -> list[int]:
    """The numbers of the operations of a message, where they have one."""
    return [one["id"] for one in ops if isinstance(one.get("id"), int)]


def _last_of(ops: Iterable[Mapping[str, Any]]) -> int:
    """The last operation that a message names; 0 where it names none."""
    return min(max(_ids(ops), default=0), 2**53)


_GONE = (
    "A box belongs to the scan it was drawn on; the server no longer has that one open; "
    "open the scan again."
)


def _check_case(session: Session, given: str | None, operation: Operation | None = None) -> None:
    """Refuse to apply what was drawn on one scan to another, as after a restart of the server."""
    case = session.case
    token = None if case is None else case.token
    opens = operation is not None and operation.opens
    if session.closed or not (opens or given == token):
        # Of a scan that the page itself has put another one in the place of, it is not told that the server lost it.
        known = session.tokens | set(session.past)
        raise VolumeError(_GONE) if given in known and not session.closed else _GoneError(_GONE)
