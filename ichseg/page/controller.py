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

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ichseg.errors import InputError, VolumeError
from ichseg.page.embeddings import Embeddings
from ichseg.page.panel import Operation, Panel, Seen
from ichseg.page.panels import PANELS
from ichseg.page.protocol import Aside, Head, Message, parse
from ichseg.page.sessions import Session, SessionStore
from ichseg.page.work import Reply, Work, check_slice
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

#: How long a refinement waits until nobody asks for anything, before the page is asked to come again.
ASIDE_PATIENCE_SECONDS = 2.0

#: How long the background keeps still once a person has begun to draw.
DRAWING_SECONDS = 4.0

_log = logging.getLogger(__name__)


class _GoneError(VolumeError):
    """The session has no scan by the name that the page gives: the server was restarted, or made room."""


class Controller:
    """Carries out what pages ask for, each on its own session."""

    def __init__(
        self,
        upload_root: Path,
        *,
        store: SessionStore | None = None,
        embeddings: Embeddings | None = None,
        read: Callable[..., CTVolume] = read_volume,
        panels: tuple[Panel, ...] = PANELS,
    ) -> None:
        """``upload_root`` is the folder below which uploaded files arrive; others are refused."""
        self.shared = Work(upload_root, read, embeddings or Embeddings(), store)
        self.store, self.embeddings = self.shared.store, self.shared.embeddings
        self.panels = panels
        self._operations = {one.name: one for panel in panels for one in panel.operations}

    # What the page's events call

    def work(self, session_hash: str, message: Any) -> Iterator[Reply]:
        """Do the operations of a message, in order; replies tell of progress, the last one of the result."""
        session = self.store.get(session_hash)
        self.shared.asked += 1
        reply: Reply = {"slices": {}, "error": None, "trouble": {}}
        try:
            asked = parse(Message, message, "a message")
        except InputError as error:
            yield self._told(session, {**reply, "error": {"text": str(error)}})
            return
        for given in asked.ops:
            try:
                head = parse(Head, given, "an operation")
            except InputError as error:
                reply["error"] = {"text": str(error)}
                continue
            if head.id <= session.done:
                continue
            try:
                yield from self._carry_out(session, head, given, asked, reply)
            except _GoneError as error:
                reply |= {"gone": True, "error": {"text": str(error)}}
            except InputError as error:
                reply["error"] = {"text": str(error)}
            except Exception:
                _log.exception("operation %s failed", head.op)
                reply["error"] = {
                    "text": "Something failed on the server that should not have; "
                    "the details are in its log; try again."
                }
            session.done = head.id
        yield self._told(session, {**reply, **self._always(session, message)})

    def answer(self, session_hash: str, message: Any) -> Reply:
        """``work`` without progress: for what takes a moment."""
        *_, reply = self.work(session_hash, message)
        return reply

    def look(self, session_hash: str, message: Any) -> None:
        """Take note of the slice on screen, and embed it at once where a person has begun to draw; or cancel.

        A hint that wants no answer: one that cannot be meant is passed over.
        """
        session = self.store.get(session_hash)
        try:
            asked = parse(Message, message, "a message")
        except InputError:
            return
        case = session.case
        if case is None or case.volume is None or case.token != asked.case:
            return
        if asked.cancel:
            session.cancelled.set()
            return
        hu_zyx, k = case.volume.hu_zyx, asked.slice
        if k >= len(hu_zyx):
            return
        if asked.busy:
            self.shared.asked += 1
            self.embeddings.hold(DRAWING_SECONDS)
            for model in case.models:
                with suppress(InputError):  # the box itself will say so
                    self.shared.masks.embedding(case, case.volume, model, k)
        else:
            self.embeddings.plan(case.owner, case.models, hu_zyx, k)

    def aside(self, session_hash: str, message: Any) -> Reply:
        """What nobody waits for: the refinement of one slice's masks, and what the panels show beside it.

        The refinement goes on only as long as nobody waits; what is left stays under "rough".
        """
        session = self.store.get(session_hash)
        reply: Reply = {"slices": {}, "trouble": {}}
        try:
            asked = parse(Message, message, "a message")
            given = asked.aside or {}
            for panel in self.panels:
                for name, tell in panel.unopened.items():
                    if given.get(name):
                        reply |= tell()
            self._aside(session, asked, given, reply)
            reply |= self._always(session, message)
        except _GoneError:
            reply["gone"] = True
        except InputError:
            pass  # an operation will say so
        with session.lock:
            return self._told(session, reply)

    def drop(self, session_hash: str) -> None:
        """End a session, with all that belongs to it."""
        self.store.drop(session_hash)

    def close(self) -> None:
        """End all sessions, whose files go first, and the work in the background."""
        self.store.close()
        self.embeddings.close()

    # Parts of them

    def _carry_out(
        self,
        session: Session,
        head: Head,
        given: Mapping[str, Any],
        message: Message,
        reply: Reply,
    ) -> Iterator[Reply]:
        """Do one operation; gives replies that tell of progress."""
        operation = self._operations.get(head.op)
        if operation is None:
            raise InputError(
                f"An operation is one of {', '.join(self._operations)}; got '{head.op[:60]}'; reload the page."
            )
        _check_case(session, message, operation)
        try:
            fields = parse(operation.fields, given, f"the operation '{head.op}'")
        except InputError:
            self._show_again(session, given, reply)
            raise
        for progress in operation.answer(self.shared, session, fields, reply):
            yield {**self._told(session, {}), **progress, "done": None}

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
            _check_case(session, message)
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

    def _told(self, session: Session, reply: Reply) -> Reply:
        return self.shared.told(session, reply)


def _check_case(session: Session, message: Message, operation: Operation | None = None) -> None:
    """Refuse to apply what was drawn on one scan to another, as after a restart of the server."""
    token = session.case.token if session.case else None
    opens = operation is not None and operation.opens
    if session.closed or not (opens or message.case == token):
        text = (
            "A box belongs to the scan it was drawn on; the server no longer has that one open; "
            "open the scan again."
        )
        there = {case.token for case in session.cases.values()}
        raise VolumeError(text) if message.case in there else _GoneError(text)
