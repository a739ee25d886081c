"""What the page asks for and what it is answered: plain dictionaries in and out, no Gradio.

The page sends the operations that it has no answer to yet, each with a rising number::

    {"case": token, "slice": k, "busy": bool, "ops": [{"id": 7, "op": "boxes", "slice": 12, "boxes": [...]}, ...]}

and is answered with the number of the last one that was done and what changed::

    {"done": 7, "slices": {"12": {"boxes", "masks", "ml", ...}}, "lesions", "totals", "models", "undo", "redo", ...}

A slice's state is ichseg.page.marking's. "gone" says that the server no longer has the scan that the page names;
"method" is what a record says of the left pane's method, and a scan's "record" what it says of the scan: the page
keeps what was drawn on a scan that is gone, and writes the record itself.

Operations that were done already are not done twice, so that the page may send them again.

What takes long tells of its progress. ``look`` with {"case": token, "cancel": true} ends what may be cancelled, and
then nothing is changed.

A box is answered at once, without a model's second look. With ``"first": true`` it is answered by the left pane's
method alone where another would have to embed the slice first: the reply's "later" lists such slices, for which the
page asks ``complete``. A slice's state lists the models of which the second look still is to come under "rough"; when
the person rests the page asks for it in passing (``Controller.aside``) with
``{"case": token, "aside": {"slice": k, "compare": bool, "measure": {...}, "methods": bool}}``, and for the
comparison's scores, the measures (``Controller._measures``) and which
absent methods could be fetched; on a lane of its own that no operation waits for. The "n" of a slice's state
and of a reply rises, so that the page knows which of two answers is the later one.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ichseg.errors import InputError, VolumeError
from ichseg.files import export
from ichseg.files.labels import with_usual_types
from ichseg.files.mask import read_labelled_mask
from ichseg.marks.lesion import UNSPECIFIED
from ichseg.methods import catalogue
from ichseg.methods.catalogue import title_of
from ichseg.page import comparison, downloads, followup, measures, methods
from ichseg.page.embeddings import Embeddings
from ichseg.page.marking import Marking, runs
from ichseg.page.progress import Result, steps
from ichseg.page.session import Case, Role, Session, SessionStore, Upload, safe_name
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.series_info import SeriesError, SeriesInfo
from ichseg.scan.volume import CTVolume

#: The page's own bound on the files of one upload together; Gradio's bound is for each file.
MAX_UPLOAD_BYTES = 1 << 30
MAX_UPLOAD_FILES = 5000

#: How long the background keeps still once a scan is open: the browser has it to fetch and to draw meanwhile, and a
#: slice that is begun keeps whoever draws at once waiting.
OPENING_SECONDS = 1.5

#: How long a second look waits for people to rest before the page is asked to come again.
ASIDE_PATIENCE_SECONDS = 2.0

#: How long one call in passing works on the range under jittered boxes before it tells how far it is.
RANGE_SECONDS = 1.0

#: The operations that need no open scan.
_OPENS = ("sample", "open", "reopen")

Message = Mapping[str, Any]
Reply = dict[str, Any]

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
    ) -> None:
        """``upload_root`` is the folder below which uploaded files arrive; others are refused."""
        self.upload_root = upload_root.resolve()
        self.embeddings = embeddings or Embeddings()
        self.marking = Marking(self.embeddings)
        self.store = store or SessionStore(on_evict=self._forget)
        self._read = read
        self._replies = itertools.count(1)
        self._steps: dict[str, Callable[[Session, Message, Reply], Iterable[Reply]]] = {
            "boxes": self._boxes,
            "complete": self._complete,
            "propagate": self._propagate,
            "correct": self._correct,
            "lesion_add": self._lesion,
            "lesion_set": self._lesion,
            "lesion_remove": self._lesion,
            "undo": self._undo,
            "redo": self._undo,
            "edge": self._edge,
            "clear_slice": self._clear,
            "clear": self._clear,
            "load": self._load,
            "fetched": self._fetched,
            "sample": self._open,
            "open": self._open,
            "reopen": self._open,
            "switch": self._switch,
            "asked": self._asked_with,
            "models": self._models,
            "truth": self._truth,
            "fetch": self._fetch,
            "export": self._export,
            "abc2": self._abc2,
        }
        self._asked = 0  # how often people asked for something they wait for

    # What the page's events call

    def work(self, session_hash: str, message: Message) -> Iterator[Reply]:
        """Do the operations of a message, in order; replies tell of progress, the last one of the result."""
        session = self.store.get(session_hash)
        self._asked += 1
        reply: Reply = {"slices": {}, "error": None, "trouble": {}}
        for op in message.get("ops", ()):
            if op["id"] <= session.done:
                continue
            try:
                self._check_case(session, op, message)
                for progress in self._steps[op["op"]](session, op, reply):
                    yield {**self._state(session, {}), **progress, "done": None}
            except _GoneError as error:
                reply |= {"gone": True, "error": {"text": str(error)}}
            except InputError as error:
                reply["error"] = {"text": str(error), **self._remedy(session, op, error)}
            except Exception:
                _log.exception("operation %s failed", op.get("op"))
                reply["error"] = {
                    "text": "Something failed on the server that should not have; "
                    "the details are in its log; try again."
                }
            session.done = op["id"]
        if message.get("followup"):
            reply["growth"] = followup.record(session)
        yield self._state(session, reply)

    def answer(self, session_hash: str, message: Message) -> Reply:
        """``work`` without progress: for what takes a moment."""
        *_, reply = self.work(session_hash, message)
        return reply

    def look(self, session_hash: str, message: Message) -> None:
        """Take note of the slice on screen, and embed it at once where a person has begun to draw; or cancel."""
        session = self.store.get(session_hash)
        case = session.case
        if case is None or case.volume is None or case.token != message.get("case"):
            return
        if message.get("cancel"):
            session.cancelled.set()
            return
        hu_zyx, k = case.volume.hu_zyx, int(message.get("slice", 0))
        if not 0 <= k < len(hu_zyx):
            return
        if message.get("busy"):
            self._asked += 1
            self.embeddings.hold(seconds=4.0)
            for model in case.models:
                try:
                    self.marking.embedding(case, case.volume, model, k)
                except InputError:
                    continue  # the box itself will say so
        else:
            self.embeddings.plan(case.owner, case.models, hu_zyx, k)

    def aside(self, session_hash: str, message: Message) -> Reply:
        """What nobody waits for: the second look of one slice's boxes, the scores of the comparison, the measures.

        The second look goes on only as long as nobody waits; what is left stays under "rough".
        """
        session = self.store.get(session_hash)
        reply: Reply = {"slices": {}, "trouble": {}}
        asked = message["aside"]
        if asked.get("methods"):
            reply["choices"] = methods.choices(ask_hub=True)
        try:
            k = int(asked["slice"])
            with session.lock:
                self._check_case(session, {"op": "aside"}, message)
                case, volume = self._case(session)
                if not 0 <= k < len(volume.hu_zyx):
                    return self._state(session, reply)
            self.marking.look_again(
                session, case, volume, k, case.models, reply["trouble"], ASIDE_PATIENCE_SECONDS
            )
            with session.lock:
                if session.case is case:
                    reply["slices"][str(k)] = self.marking.slice_state(case, volume, k)
                if message.get("followup"):
                    reply["growth"] = followup.record(session)
                state = self._state(session, reply)
            if asked.get("compare"):
                state["scores"] = comparison.scores(session, case, volume, int(asked.get("at", k)))
            if asked.get("measure"):
                state["measures"] = self._measures(session, case, volume, asked["measure"])
            return state
        except _GoneError:
            return self._state(session, {**reply, "gone": True})
        except InputError:
            return self._state(session, reply)  # an operation will say so

    def drop(self, session_hash: str) -> None:
        """End a session, with all that belongs to it."""
        self.store.drop(session_hash)

    def close(self) -> None:
        """End all sessions, whose files go first, and the work in the background."""
        self.store.close()
        self.embeddings.close()

    # Operations: each changes the session, writes what changed into the reply, and may yield progress

    def _open(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        yield _progress("Reading the scan")
        role: Role = "followup" if op.get("role") == "followup" else "baseline"
        series, add_offset = op.get("series"), int(op.get("add_offset", 0))
        with session.lock:
            if role == "followup" and "baseline" not in session.cases:
                raise VolumeError(
                    "A follow-up is compared with a baseline; no scan is open; open the first scan first."
                )
            if op["op"] == "sample":
                upload, read = None, partial(self._read, sample_paths(role == "followup")[0])
            else:
                upload = self._upload(session, op)
                paths: Any = upload.paths if len(upload.paths) > 1 else upload.paths[0]
                read = partial(self._read, paths, series=series, add_offset=add_offset)
            try:
                case = Case(read, _pair(session.case.models if session.case else None), upload)
            except Exception:
                if upload is not None and upload not in [
                    one.upload for one in session.cases.values()
                ]:
                    self._refuse(session, upload)
                raise
            volume = case.volume
            assert volume is not None
        yield _progress("Preparing the scan")
        with session.lock:
            voxels = session.write_voxels(volume)
            self.store.open(session, case, role)
            self.embeddings.admit(case.owner)
            self.embeddings.hold(OPENING_SECONDS)
            self.embeddings.plan(case.owner, case.models, volume.hu_zyx, len(volume.hu_zyx) // 2)
        reply["slices"] = {}
        reply["scan"] = _describe(case, volume, voxels)

    def _switch(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Show the other of the two scans with all that is marked on it, or (``close``) the baseline alone."""
        yield _progress("Changing scans")
        with session.lock:
            role: Role = "followup" if op.get("role") == "followup" else "baseline"
            if op.get("close"):
                self.store.close_followup(session)
                role = "baseline"
            if role not in session.cases:
                raise VolumeError(
                    "Scans are changed between a baseline and a follow-up; there is no follow-up; open it first."
                )
            session.role = role
            case, volume = self._case(session)
            voxels = None if op.get("have") else session.write_voxels(volume)
            reply["slices"] = {
                str(k): self.marking.slice_state(case, volume, k)
                for k in case.segmentation.marked_slices()
            }
            reply["scan"] = _describe(case, volume, voxels)
            reply["truth"] = self._truth_state(case)

    def _asked_with(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Take what a person says of the two scans and of the patient, for growth and scores."""
        with session.lock:
            session.asked = followup.asked_from_page(op)
        return ()

    def _boxes(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        with session.lock:
            case, volume = self._case(session)
            k, lesion, boxes = int(op["slice"]), int(op.get("lesion", 1)), op["boxes"]
            first = bool(op.get("first"))
            try:
                if self.marking.set_boxes(
                    case, volume, k, lesion, boxes, reply["trouble"], first=first
                ):
                    reply["later"] = [*reply.get("later", ()), k]
            finally:
                if 0 <= k < len(volume.hu_zyx):
                    reply["slices"][str(k)] = self.marking.slice_state(case, volume, k)
        return ()

    def _complete(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Bring the masks that the answer to a box left for later."""
        with session.lock:
            case, volume = self._case(session)
            self._show_complete(case, volume, int(op["slice"]), reply)
        return ()

    def _propagate(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Follow a lesion from its boxes through the scan, by every method shown, as one step."""
        session.cancelled.clear()
        with session.lock:
            case, volume = self._case(session)
            lesion = int(op["lesion"])
            prompts = self.marking.prompts(case, lesion)
        names, found = list(dict.fromkeys(case.models)), {}
        for number, model in enumerate(names):
            text = f"Following the hematoma: {title_of(model)}"
            found[model] = self.marking.nothing_found(volume)
            steps = self.marking.follow(
                case, volume, lesion, model, prompts, found[model], session.cancelled.is_set
            )
            for share in itertools.chain([0.0], steps):
                yield _progress(text, (number + share) / len(names), cancel=True)
            if session.cancelled.is_set():
                return
        with (
            session.lock,
            self._showing_changes(session, reply) as (case, _),
            case.segmentation.one_step(),
        ):
            for model, one in found.items():
                one.mark(case.segmentation, lesion, model, lesion)

    def _correct(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        with session.lock, self._showing_changes(session, reply) as (case, volume):
            shown = self.marking.correct(case, volume, op)
            if shown != int(op["slice"]):
                reply["show"] = shown
        return ()

    def _lesion(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Add a lesion, change what it is called or whether it is locked, or remove it with its masks."""
        with session.lock, self._showing_changes(session, reply) as (case, _):
            marked = case.segmentation
            if op["op"] == "lesion_add":
                reply["lesion"] = marked.add_lesion(type=op.get("type", UNSPECIFIED))
            elif op["op"] == "lesion_remove":
                marked.remove_lesion(int(op["lesion"]))
            else:
                marked.set_lesion(
                    int(op["lesion"]),
                    name=op.get("name"),
                    type=op.get("type"),
                    locked=op.get("locked"),
                    visible=op.get("visible"),
                )
        return ()

    def _load(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Go on with a mask that was saved, as lesions of the left pane's method, or with a whole session."""
        yield _progress("Reading what was saved")
        with session.lock:
            self._case(session)
            upload = self._upload(session, op)
        try:
            beside = [path for path in upload.paths if path.suffix.lower() == ".json"]
            masks = [path for path in upload.paths if path not in beside]
            if masks:
                # What the labels stand for was saved beside the mask, and may be given with it.
                for path in beside:
                    path.rename(export.lesions_path(masks[0]))
                self._load_mask(session, masks[0], reply)
            else:
                yield from self._load_session(session, beside[0], reply, bool(op.get("anew")))
        finally:
            self.store.discard(upload)

    def _load_mask(self, session: Session, path: Path, reply: Reply) -> None:
        with session.lock, self._showing_changes(session, reply) as (case, volume):
            given = with_usual_types(read_labelled_mask(path, volume))
            labels = given.labels_zyx
            if not labels.any():
                raise VolumeError(
                    f"A mask to go on with marks something; {path.name} is empty; give another."
                )
            found = case.segmentation.import_labels(labels, case.models[0], given.lesions)
            reply["said"] = list(given.notes)
            reply["lesion"] = min(found.values())
            reply["show"] = int(np.argmax((labels != 0).sum(axis=(1, 2))))

    def _load_session(
        self, session: Session, path: Path, reply: Reply, anew: bool
    ) -> Generator[Reply, None, None]:
        """Make again what a session's record says, in the place of all that is marked; undo brings that back.

        ``anew``: by the weights that are here, whatever they were.
        """
        record = export.load_session(path)
        with session.lock:
            case, volume = self._case(session)
        record.check_scan(volume)
        model = record.model
        predictor = self.embeddings.load(model)
        changed = [] if anew else record.check_model(predictor)
        embed = partial(self.marking.embedding, case, volume, model)
        made = yield from _told(
            "Making the session's masks again",
            steps(lambda tell: record.run(predictor, volume, embed=embed, progress=tell)),
        )
        with session.lock, self._showing_changes(session, reply) as (case, _):
            case.models = (model, *case.models[1:])
            case.segmentation.adopt(made)
            self._tell_method(case, reply)
            reply["show"] = int(np.argmax(made.mask_zyx(model).sum(axis=(1, 2))))
            if not anew:
                same = record.is_same(made, model)
                reply["said"] = [export.same_mask_note(False, changed)] * (same is False) + changed

    def _undo(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        with session.lock, self._showing_changes(session, reply) as (case, _):
            if op["op"] == "undo":
                case.segmentation.undo()
            else:
                case.segmentation.redo()
        return ()

    def _edge(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Draw the edge at half height on what boxes gave, or take it off; a step of undo."""
        with session.lock, self._showing_changes(session, reply) as (case, _):
            case.segmentation.set_edge(bool(op["on"]))
        with session.lock:
            self._tell_method(self._case(session)[0], reply)
        return ()

    def _clear(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        with session.lock, self._showing_changes(session, reply) as (case, _):
            if op["op"] == "clear":
                case.segmentation.clear()
            else:
                case.segmentation.clear_slice(int(op["slice"]))
        return ()

    def _models(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Choose the methods, two or more; slices that are marked get the masks that they lack."""
        names = tuple(str(name) for name in op["models"])
        if not 2 <= len(names) <= len(catalogue.CATALOGUE):
            raise InputError(
                f"Two methods or more are shown, each at most once beyond the second; got {len(names)}; choose two."
            )
        for name in names:
            ready, why = catalogue.available(name)
            if not ready:
                raise InputError(why)
        with session.lock:
            case, volume = self._case(session)
            case.models = names
        slices = case.segmentation.marked_slices()
        for number, k in enumerate(slices):
            yield _progress(f"Segmenting slice {k + 1}", number / len(slices))
            with session.lock:
                self._show_complete(case, volume, k, reply)
        self._tell_method(case, reply)
        centre = int(op.get("slice", len(volume.hu_zyx) // 2))
        self.embeddings.plan(case.owner, case.models, volume.hu_zyx, centre)

    def _fetched(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """The browser has the voxels or the surface: their file need not lie about any longer."""
        with session.lock:
            for path in session.public.glob("*/voxels.gz"):
                path.unlink(missing_ok=True)
            session.discard_view()
            case, _ = self._case(session)
        self._tell_method(case, reply)
        return ()

    def _truth(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Take up a truth mask on the scan's grid to score against, or put it away."""
        yield _progress("Reading the truth mask")
        with session.lock:
            case, volume = self._case(session)
            if op.get("remove"):
                case.truth = None
                reply["truth"] = None
                return
            if op.get("sample"):
                if case.upload is not None:
                    raise InputError("The sample's truth is of the sample; another scan is open.")
                mask_path = sample_paths(session.role == "followup")[1]
                given = read_labelled_mask(mask_path, volume)
            else:
                upload = self._upload(session, op)
                try:
                    given = read_labelled_mask(upload.paths[0], volume)
                finally:
                    self.store.discard(upload)
                reply["said"] = list(given.notes)
            case.truth = np.packbits(given.blood_zyx)
            reply["truth"] = self._truth_state(case)

    @staticmethod
    def _truth_state(case: Case) -> Reply | None:
        """The truth mask for the page, None where there is none."""
        mask = case.truth_zyx
        if mask is None:
            return None
        slices = map(int, np.flatnonzero(mask.any(axis=(1, 2))))
        return {"slices": {str(k): runs(mask[k]) for k in slices}}

    def _fetch(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Bring a method's weights from the hub, telling how far it is."""
        text = f"Fetching {title_of(str(op['name']))}"
        yield _progress(text)
        for part in methods.fetch(str(op["name"])):
            yield _progress(text, part)
        reply["choices"] = methods.choices()

    def _export(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        label = str(op.get("label") or "")
        with session.lock:
            case, volume = self._case(session)
        called = export.with_label(volume, label)
        model = str(op.get("model", case.models[0]))
        if op["kind"] != "picture":
            _check_complete(case, model)
        marked = case.segmentation.marked_slices()
        wanted = [int(op["slice"])] if op["kind"] == "picture" else marked
        rough = [
            k for k in wanted if k in marked and self.marking.rough(case, k, model, again=True)
        ]
        for number, k in enumerate(rough):
            yield _progress(f"Looking closer at slice {k + 1}", number / len(rough))
            self.marking.look_again(session, case, volume, k, [model], reply["trouble"], None)
            with session.lock:
                reply["slices"][str(k)] = self.marking.slice_state(case, volume, k)
            if model in reply["trouble"]:
                raise InputError(reply["trouble"][model])
        method, kind = self._method(case, model), str(op["kind"])
        if kind in downloads.EVIDENCE:
            yield _progress("Measuring")
            measured = self._measured(session, case, volume, method)
            if kind in downloads.WITH_RANGE:
                yield from self._range(session, case, measured)
            yield _progress("Writing the file")
            with case.measuring.lock:
                found = case.measuring.assessment(measured)
            with session.lock:
                other_label = str(op.get("other_label") or "")
                found = followup.added(replace(found, volume=called), session, other_label)
            paths = downloads.write_evidence(session.new_folder(), kind, found)
        elif kind == "regular":
            yield _progress("Resampling scan and mask")
            with session.lock:
                labels, lesions = (
                    case.segmentation.labels_zyx(model),
                    case.segmentation.named_lesions,
                )
                folder = session.new_folder()
            paths, said = downloads.write_regular(folder, labels, lesions, called, method)
            reply["said"] = [said]
        else:
            yield _progress("Writing the file")
            with session.lock:
                case, _ = self._case(session)
                paths = downloads.write_marked(
                    session.new_folder(), kind, case.segmentation, called, method, op
                )
        first, *beside = [{"path": str(path), "name": path.name} for path in paths]
        reply["download"] = {**first, "beside": beside}

    def _abc2(self, session: Session, op: Message, reply: Reply) -> Iterable[Reply]:
        """Take the lines of a lesion's ABC/2 as a person has moved them, or (none given) find them again."""
        lines, lesion = measures.Lines.from_page(op), int(op["lesion"])
        with session.lock:
            case, volume = self._case(session)
        _check_complete(case, case.models[0], "ABC/2")
        measured = self._measured(session, case, volume, self._method(case, case.models[0]))
        with case.measuring.lock:
            try:
                case.measuring.set_lines(measured, lesion, lines)
            finally:
                reply["measures"] = {"record": case.measuring.record(measured)}
        return ()

    # Measures

    def _measures(self, session: Session, case: Case, volume: CTVolume, asked: Message) -> Reply:
        """What the measure panel shows of the left pane's method, and how far its range is.

        ``asked`` has "have", the "n" of the record that the page has, and "view" where it wants the surface too, with
        "viewed", the "n" of the one it has. Keys: "record", left out where the page has it; "range", the share of it
        that is done, None where it is complete; "view" (path, n); "why", a sentence where nothing can be measured.
        """
        with session.lock:
            try:
                _check_complete(case, case.models[0], "A measure")
            except InputError as error:
                return {"record": None, "why": str(error)}
            method = self._method(case, case.models[0])
        known, asked_before = asked.get("have"), self._asked
        measured = self._measured(session, case, volume, method)
        out: Reply = {}
        with case.measuring.lock:
            if asked.get("view") and asked.get("viewed") != measured.n:
                try:
                    path = session.write_view(measures.view_glb(measured))
                    out["view"] = {"path": str(path), "n": measured.n}
                except InputError as error:
                    out["view"] = {"why": str(error), "n": measured.n}
            if known != measured.n:  # first what is there, then how sure it is
                return {**out, "record": case.measuring.record(measured), "range": 0.0}

            def go_on() -> bool:
                return self._asked == asked_before and session.case is case

            portions = self._portions(case, measured, lambda: not go_on())
            left = measures.work_for(portions, RANGE_SECONDS, go_on)
            if left is None:
                out["record"] = case.measuring.record(measured)
        return {**out, "range": left}

    def _measured(
        self, session: Session, case: Case, volume: CTVolume, method: measures.Method
    ) -> measures.Measured:
        """The measures of a method's masks as they are now; the session is held for a moment only."""
        with case.measuring.lock:
            with session.lock:
                if known := case.measuring.last(case.segmentation, method):
                    return known
                snapshot = measures.Snapshot.of(case.segmentation, method)
            return case.measuring.measure(snapshot, volume)

    def _portions(
        self,
        case: Case,
        measured: measures.Measured,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[float]:
        name = measured.snapshot.method.name
        return case.measuring.portions(
            measured,
            self.embeddings.load(name),
            partial(self.marking.embedding, case, measured.volume, name),
            cancelled,
        )

    def _range(self, session: Session, case: Case, measured: measures.Measured) -> Iterator[Reply]:
        """Complete the range for a person who waits, telling how far it is, until they wait no longer."""
        session.cancelled.clear()
        portions = self._portions(case, measured, session.cancelled.is_set)
        while not session.cancelled.is_set():
            with case.measuring.lock:
                share = next(portions, None)
            if share is None:
                return
            text = "Drawing the boxes anew, for the range. Cancel writes the file without it."
            yield _progress(text, share, cancel=True)

    def _tell_method(self, case: Case, reply: Reply) -> None:
        """Tell the page what a record says of the left pane's method, for the records that it writes itself."""
        with suppress(InputError):  # the first box says what is wrong with it
            method = self._method(case, case.models[0])
            reply["method"] = {
                "model": method.name,
                "weights_sha256": dict(method.weights_sha256),
                "second_look": method.second_look,
                "identity": None if method.identity is None else method.identity.record(),
            }

    def _method(self, case: Case, model: str) -> measures.Method:
        predictor = self.embeddings.load(model)
        on = case.segmentation.edge
        return measures.Method(
            model,
            title_of(model),
            predictor.second_look,
            dict(predictor.weights_sha256),
            catalogue.mask_identity(predictor, edge=on),
            bool(catalogue.edge_setting(model, on)),
        )

    # Parts of them

    @contextmanager
    def _showing_changes(self, session: Session, reply: Reply) -> Iterator[tuple[Case, CTVolume]]:
        """Give the open case, and put every slice that is changed within into the reply, complete for what is shown."""
        case, volume = self._case(session)
        marked = case.segmentation
        before, blood = marked.state, {lesion.id: lesion.is_blood for lesion in marked.lesions}
        yield case, volume
        changed = set(marked.changed_slices(before))
        for lesion in marked.lesions:
            # What has become blood, or no longer is, counts in the slice's millilitres.
            if blood.get(lesion.id, lesion.is_blood) != lesion.is_blood:
                changed |= set(marked.marked_slices(lesion=lesion.id))
        for k in sorted(changed):
            self._show_complete(case, volume, k, reply)

    def _show_complete(self, case: Case, volume: CTVolume, k: int, reply: Reply) -> None:
        """Put slice k into the reply, with the masks that a shown method lacked."""
        self.marking.complete(case, volume, k, reply["trouble"])
        reply["slices"][str(k)] = self.marking.slice_state(case, volume, k)

    @staticmethod
    def _check_case(session: Session, op: Message, message: Message) -> None:
        """Refuse to apply what was drawn on one scan to another, as after a restart of the server."""
        token = session.case.token if session.case else None
        if session.closed or (op["op"] not in _OPENS and message.get("case") != token):
            text = (
                "A box belongs to the scan it was drawn on; the server no longer has that one open; "
                "open the scan again."
            )
            there = {case.token for case in session.cases.values()}
            raise VolumeError(text) if message.get("case") in there else _GoneError(text)

    def _case(self, session: Session) -> tuple[Case, CTVolume]:
        """The open case with its volume, rebuilt where it was evicted."""
        volume = self.store.volume(session)
        assert session.case is not None
        self.embeddings.admit(session.case.owner)
        return session.case, volume

    def _forget(self, case: Case) -> None:
        if case.upload is not None:  # what is the sample's stays: others open it, too
            self.embeddings.forget(case.owner)
        case.measuring.put_aside()

    def _state(self, session: Session, reply: Reply) -> Reply:
        """A reply with what every reply says: what was done, the totals, what undo and redo can do."""
        out: Reply = {"n": next(self._replies), "done": session.done, **reply}
        case = session.case
        if case is not None:
            out |= {
                "case": case.token,
                "models": list(case.models),
                "runs": {model: catalogue.backend_of(model) for model in case.models},
                "lesions": self.marking.lesions_state(case),
                "totals": {model: self.marking.total_ml(case, model) for model in case.models},
                "edge": case.segmentation.edge,
                "undo": case.segmentation.can_undo,
                "redo": case.segmentation.can_redo,
                "role": session.role,
                "roles": {
                    name: {
                        "case": one.token,
                        "marked": len(one.segmentation.marked_slices()),
                        "warnings": list(one.warnings),
                    }
                    for name, one in session.cases.items()
                },
            }
        return out

    def _upload(self, session: Session, op: Message) -> Upload:
        """The files to read: newly arrived ones, or those given before."""
        if op["op"] == "reopen":
            case = session.case
            of_case = case is not None and op.get("series") and not op.get("refused")
            upload = case.upload if case and of_case else session.refused
            if upload is None:
                raise VolumeError(
                    "A scan is opened again from its files; none are here; upload them."
                )
            return upload
        paths = [Path(file["path"]).resolve() for file in op["files"]]
        names = [safe_name(str(file["name"])) for file in op["files"]]
        if not paths or not all(
            path.is_relative_to(self.upload_root) and path.is_file() for path in paths
        ):
            raise VolumeError(
                "A scan is opened from uploaded files; these are not here; upload them."
            )
        size = sum(path.stat().st_size for path in paths)
        if size > MAX_UPLOAD_BYTES or len(paths) > MAX_UPLOAD_FILES:
            for path in paths:
                path.unlink(missing_ok=True)
            raise VolumeError(
                f"An upload is at most {MAX_UPLOAD_BYTES >> 20} MB in {MAX_UPLOAD_FILES} files; got "
                f"{size >> 20} MB in {len(paths)}; give one series."
            )
        return session.take(paths, names)

    def _refuse(self, session: Session, upload: Upload) -> None:
        if session.refused is not None and session.refused is not upload:
            self.store.discard(session.refused)
        session.refused = upload

    def _remedy(self, session: Session, op: Message, error: InputError) -> Reply:
        """What may cure an error beside its text: "fix", a button, and "choose", the series to open instead.

        "fix" has the offset that the reader suggests, as a label and an operation. "choose" has the "series" as
        ``_series`` gives them, and the "op" that opens one of them with its key as "series".
        """
        role = op.get("role", "baseline")
        out: Reply = {}
        series = error.series if isinstance(error, SeriesError) else ()
        if series:
            # Files that were given just now are kept as refused ones; a series of the open scan is asked of that.
            refused = op.get("op") == "open" or not op.get("series") or bool(op.get("refused"))
            choose = {"op": "reopen", "role": role, "refused": refused}
            out["choose"] = {"op": choose, "series": _series(series)}
        found = re.search(r"open it with add_offset=(-?\d+)", str(error))
        if found is None or session.refused is None:
            return out
        offset = int(found.group(1))
        same = {key: op[key] for key in ("series", "refused") if op.get(key)}
        return out | {
            "text": str(error).replace(found.group(), "use the button to correct it"),
            "fix": {
                "label": f"Add {offset} HU",
                "op": {"op": "reopen", "add_offset": offset, "role": role, **same},
            },
        }


def _pair(before: tuple[str, ...] | None) -> tuple[str, ...]:
    """The methods of a newly opened scan: those chosen before, else the defaults."""
    return before or (catalogue.default_model(), catalogue.default_baseline())


def _check_complete(case: Case, model: str, what: str = "A download") -> None:
    """Refuse to hand out nothing, a mask that lacks a slice, or one of a method which is not shown."""
    if not case.segmentation.marked_slices():
        raise InputError(f"{what} needs something marked; nothing is yet; draw a box first.")
    if model not in case.models:
        raise InputError(
            f"{what} is of one of the methods shown; {title_of(model)} is not; choose it first."
        )
    missing = [k + 1 for k in case.segmentation.marked_slices() if (k, model) in case.failed]
    if missing:
        raise InputError(
            f"{what} is of a mask on every marked slice; {title_of(model)} failed on slice "
            f"{missing[0]}; draw its box again, or choose another method."
        )


def _progress(text: str, part: float | None = None, *, cancel: bool = False) -> Reply:
    """``cancel``: whether the person may end it (``Controller.look``)."""
    return {"progress": {"text": text, "part": part, "cancel": cancel}}


def _told(text: str, work: Generator[float, None, Result]) -> Generator[Reply, None, Result]:
    """The progress of work that gives the share that is done; returns what it returns."""
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield _progress(text, share)


def _describe(case: Case, volume: CTVolume, voxels: Path | None) -> Reply:
    """What the browser needs to show a scan; without ``voxels`` it has them."""
    depth, rows, columns = volume.shape_zyx
    return {
        "voxels": None if voxels is None else str(voxels),
        "shape": [depth, rows, columns],
        "spacing": [round(float(mm), 4) for mm in volume.spacing_mm],
        "name": volume.name,
        "record": {
            "schema_version": export.SCHEMA_VERSION,
            "scan": export.scan_record(volume),
            "versions": export.versions(),
            "notice": export.NOTICE,
        },
        "warnings": list(volume.warnings),
        "notes": list(volume.notes),
        "even": volume.geometry.is_even,
        "tilted": volume.geometry.is_tilted,
        "sample": case.upload is None,
        "dicom": volume.dicom is not None,
        "series": _series(volume.series),
    }


def _series(found: Iterable[SeriesInfo]) -> list[Reply]:
    """DICOM series for the page's chooser, those that cannot be opened with the reason."""
    return [
        {
            "key": one.key,
            "number": one.number,
            "label": one.label,
            "slices": one.slices,
            "refusal": one.refusal,
        }
        for one in found
    ]
