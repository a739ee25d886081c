"""What the panels' operations share: the open scan, the methods' masks on it, its uploads, and what a reply says."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ichseg.errors import BoxError, InputError, VolumeError, check_cancelled
from ichseg.methods import catalogue
from ichseg.methods.catalogue import title_of
from ichseg.page import state
from ichseg.page.case import Case, Upload
from ichseg.page.embeddings import Embeddings
from ichseg.page.likely import Likely
from ichseg.page.masks import Masks
from ichseg.page.measuring import Measured, Method, Snapshot
from ichseg.page.protocol import File
from ichseg.page.sessions import Session, SessionStore, safe_name
from ichseg.scan.slabs import slabs_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.cohort.study import Study

#: The page's own bound on the files of one upload together; Gradio's bound is for each file.
MAX_UPLOAD_BYTES = 1 << 30
MAX_UPLOAD_FILES = 5000

Reply = dict[str, Any]


class Work:
    """Shared by all sessions of the process; it holds nobody's scan itself."""

    def __init__(
        self,
        upload_root: Path,
        read: Callable[..., CTVolume],
        embeddings: Embeddings,
        store: Callable[..., SessionStore] = SessionStore,
        study: Study | None = None,
    ) -> None:
        """``upload_root`` is the folder below which uploaded files arrive; others are refused.

        ``study`` is the one that the operator started the page for: whoever reaches the page can read its scans.
        """
        self.upload_root = upload_root.resolve()
        self.read = read
        self.embeddings = embeddings
        self.masks = Masks(embeddings)
        self.likely = Likely()
        self.study = study
        self.store = store(on_evict=self.forget)
        self.asked = 0
        """How often people asked for something that they wait for."""
        self._reading = threading.Lock()
        self._samples: dict[Path, CTVolume] = {}
        self._replies = itertools.count(1)
        self._states = itertools.count(1)

    def read_scan(self, *paths: Any, **how: Any) -> CTVolume:
        """Read a scan; one at a time in the process, for reading takes more memory than a scan does once it is read."""
        while not self._reading.acquire(timeout=0.2):
            check_cancelled()
        try:
            return self.read(*paths, **how)
        finally:
            self._reading.release()

    def read_sample(self, path: Path) -> CTVolume:
        """The sample or its follow-up, read once for everybody who opens it: voxels are read-only."""
        if path not in self._samples:
            self._samples[path] = self.read_scan(path)
        return self._samples[path]

    # The open scan. Hold the session's lock.

    def case(self, session: Session) -> tuple[Case, CTVolume]:
        """The open case with its volume, rebuilt where it was evicted."""
        volume = self.store.volume(session)
        assert session.case is not None
        self.embeddings.admit(session.case.owner)
        return session.case, volume

    def plan(self, case: Case, volume: CTVolume, centre: int) -> None:
        """Have the background embed a scan's slices, outward from one, and look for blood on them meanwhile."""
        reader = self.likely.reader(case.owner, volume)
        self.embeddings.plan(
            case.owner, case.models, volume.hu_zyx, centre, reader, slabs_of(volume)
        )

    def forget(self, case: Case) -> None:
        """Let go of what was computed for a scan that is put aside or closed."""
        if not case.is_sample:  # what is the sample's stays: others open it, too
            self.embeddings.forget(case.owner)
            self.likely.forget(case.owner)
        case.measuring.put_aside()

    @contextmanager
    def showing_changes(self, session: Session, reply: Reply) -> Iterator[tuple[Case, CTVolume]]:
        """Give the open case, and put every slice that is changed within into the reply, complete for what is shown."""
        case, volume = self.case(session)
        marked = case.segmentation
        before, blood = marked.state, {lesion.id: lesion.is_blood for lesion in marked.lesions}
        yield case, volume
        changed = set(marked.changed_slices(before))
        for lesion in marked.lesions:
            # What has become blood, or no longer is, counts in the slice's millilitres.
            if blood.get(lesion.id, lesion.is_blood) != lesion.is_blood:
                changed |= set(marked.marked_slices(lesion=lesion.id))
        for k in sorted(changed):
            self.show_complete(case, volume, k, reply)

    def show_complete(self, case: Case, volume: CTVolume, k: int, reply: Reply) -> None:
        """Put slice k into the reply, with the masks that a shown method lacked."""
        check_slice(volume, k)
        self.masks.complete(case, volume, k, reply["trouble"])
        self.show(case, volume, k, reply)

    def show(self, case: Case, volume: CTVolume, k: int, reply: Reply) -> None:
        """Put slice k into the reply as it is; its "n" rises from state to state."""
        rough = [model for model in dict.fromkeys(case.models) if self.masks.rough(case, k, model)]
        reply["slices"][str(k)] = {
            "n": next(self._states),
            **state.slice_state(case, volume, k, rough),
        }

    def told(
        self, session: Session, reply: Reply, *, known: bool = False, waits: bool = True
    ) -> Reply:
        """A reply with what every reply says: what was done, the totals, what undo and redo can do.

        Of the scans and their names it tells only who is ``known`` to be that page. One that does not wait leaves them
        out while the session is at work: else each request that is refused would hold a thread until that is done.
        """
        out: Reply = {"n": next(self._replies), "done": session.done, **reply}
        if not known or not session.lock.acquire(blocking=waits):
            return out
        try:
            case = session.case
            if case is None:
                return out
            return out | {
                "case": case.token,
                "lease": session.lease.token,
                "renew_seconds": session.lease.terms.renew_seconds,
                "models": list(case.models),
                "runs": {model: catalogue.backend_of(model) for model in case.models},
                "lesions": state.lesions_state(case),
                "totals": {model: state.total_ml(case, model) for model in case.models},
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
        finally:
            session.lock.release()

    # The method whose masks are measured and saved

    def method(self, case: Case, model: str) -> Method:
        """What makes a model's masks on a case now. Raises WeightsError where it cannot be loaded."""
        predictor = self.embeddings.load(model)
        on = case.segmentation.edge
        return Method(
            model,
            title_of(model),
            predictor.second_look,
            dict(predictor.weights_sha256),
            catalogue.mask_identity(predictor, edge=on),
            bool(catalogue.edge_setting(model, on)),
        )

    def tell_method(self, case: Case, reply: Reply) -> None:
        """Tell the page what a record says of the left pane's method, for the records that it writes itself."""
        with suppress(InputError):  # the first box says what is wrong with it
            method = self.method(case, case.models[0])
            reply["method"] = {
                "model": method.name,
                "weights_sha256": dict(method.weights_sha256),
                "second_look": method.second_look,
                "identity": None if method.identity is None else method.identity.record(),
            }

    def measured(self, session: Session, case: Case, volume: CTVolume, method: Method) -> Measured:
        """The measures of a method's masks as they are now; the session is held for a moment only."""
        with case.measuring.lock:
            with session.lock:
                if known := case.measuring.last(case.segmentation, method):
                    return known
                snapshot = Snapshot.of(case.segmentation, method)
            return case.measuring.measure(snapshot, volume)

    def portions(
        self, case: Case, measured: Measured, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[float]:
        """The work on the range of what was measured, in portions (``Measuring.portions``)."""
        name = measured.snapshot.method.name
        return case.measuring.portions(
            measured,
            self.embeddings.load(name),
            partial(self.masks.embedding, case, measured.volume, name),
            cancelled,
        )

    # Uploads

    def take(self, session: Session, files: Sequence[File]) -> Upload:
        """Move newly uploaded files into the session. Raises VolumeError for others, and for too many."""
        try:
            paths = [Path(file.path).resolve() for file in files]
            here = all(path.is_relative_to(self.upload_root) and path.is_file() for path in paths)
        except (OSError, ValueError):  # no file can have such a name
            here = False
        if not files or not here:
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
        upload = session.take(paths, [safe_name(file.name) for file in files])
        for folder in {path.parent for path in paths} - {self.upload_root}:
            with suppress(OSError):
                folder.rmdir()  # Gradio made it for one file
        return upload


def check_slice(volume: CTVolume, k: int) -> None:
    """Refuse a slice that the scan does not have."""
    if not 0 <= k < len(volume.hu_zyx):
        raise BoxError(
            f"The scan has slices 0 to {len(volume.hu_zyx) - 1}; got {k}; choose one of them."
        )


def check_complete(case: Case, model: str, what: str = "A download") -> None:
    """Refuse to hand out nothing, a mask that lacks a slice, or one of a method which is not shown."""
    if not case.segmentation.marked_slices():
        raise InputError(f"{what} needs something marked; nothing is yet; draw a box first.")
    check_each_marked(case, model, what)


def check_each_marked(case: Case, model: str, what: str) -> None:
    """Refuse a mask that lacks a marked slice, or one of a method which is not shown."""
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
