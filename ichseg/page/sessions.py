"""What each open page holds: its scan, boxes, masks and files. Nothing of anybody's is shared between sessions."""

from __future__ import annotations

import gzip
import math
import os
import secrets
import shutil
import tempfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError, VolumeError
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.measures.growth import Thresholds
from ichseg.measures.scores import Findings
from ichseg.methods.edge_step import step_of
from ichseg.page.measuring import Measuring
from ichseg.replace_file import write_whole
from ichseg.scan.volume import CTVolume

BoolArray = npt.NDArray[np.bool_]
Role = Literal["baseline", "followup"]

#: Scans held in memory by the whole process, in bytes of voxels; a usual head CT is 16 to 32 MB.
BUDGET_BYTES = 2 << 30

#: Open pages; beyond these the one that was used least recently is closed.
MAX_SESSIONS = 200

#: Of an uploaded file's name, in UTF-8.
MAX_NAME_BYTES = 100

#: Single-box masks remembered, so that a further box on a slice costs one decoding, not all, and no
#: mask is refined twice. One is a few hundred bytes.
REMEMBERED_BOXES = 4096


class Case:
    """One open scan: the volume while there is room for it, and what was marked on it.

    ``token`` is unguessable; it names the case in the page and in file names. ``read`` makes the volume, again if need
    be: an evicted volume is rebuilt from the upload.
    """

    def __init__(
        self,
        read: Callable[[], CTVolume],
        models: tuple[str, ...],
        upload: Upload | None = None,
    ) -> None:
        self.token = secrets.token_urlsafe(18)
        self.read = read
        self.upload = upload
        """The files it is read from; None for the sample."""
        self.volume: CTVolume | None = read()
        self.owner = self.token if upload is not None else self.volume.sha256
        """Whose embeddings are its own in their store: the sample's are everybody's, and made once."""
        self.warnings = self.volume.warnings
        self.models = models
        self.segmentation = Segmentation(self.volume.shape_zyx, edge_step=step_of(self._voxels))
        self.box_masks: OrderedDict[tuple[int, str, Box], _BoxMask] = OrderedDict()
        self.slice_ml: dict[int, dict[str, dict[int, float]]] = {}
        """Millilitres by slice, model and lesion, of what was last shown."""
        self.failed: set[tuple[int, str]] = set()
        """Slices whose mask a model could not make: they are not to pass for empty ones."""
        self.reference: npt.NDArray[np.uint8] | None = None
        """The packed bits of a reference mask to score against."""
        self.refinement_failed: set[tuple[int, str, Box]] = set()
        """Boxes whose refinement failed: they are tried again only before a download."""
        self.measuring = Measuring()

    def _voxels(self) -> CTVolume:
        """The scan, for a step on masks: there while something is marked; read again where it was put aside."""
        if self.volume is None:
            self.volume = self.read()
        return self.volume

    def remember(
        self, k: int, model: str, box: Box, mask_yx: BoolArray, *, refined: bool = False
    ) -> None:
        """Keep the mask of one box, dropping the oldest beyond REMEMBERED_BOXES."""
        self.box_masks[(k, model, box)] = _BoxMask(
            zlib.compress(np.packbits(mask_yx).tobytes(), 1), refined
        )
        while len(self.box_masks) > REMEMBERED_BOXES:
            self.box_masks.popitem(last=False)

    def recall(self, k: int, model: str, box: Box) -> BoolArray | None:
        """The mask of one box, bool [y, x], if it is still remembered."""
        kept = self.box_masks.get((k, model, box))
        if kept is None:
            return None
        shape_yx = self.segmentation.shape_zyx[1:]
        packed = np.frombuffer(zlib.decompress(kept.deflated), dtype=np.uint8)
        bits = np.unpackbits(packed, count=shape_yx[0] * shape_yx[1])
        return np.asarray(bits.reshape(shape_yx), dtype=bool)

    @property
    def reference_zyx(self) -> BoolArray | None:
        """The reference mask, bool [z, y, x]."""
        if self.reference is None:
            return None
        shape = self.segmentation.shape_zyx
        bits = np.unpackbits(self.reference, count=math.prod(shape))
        return np.asarray(bits.reshape(shape), dtype=bool)

    def lesion_ml(self, lesion: int, model: str) -> float:
        """A lesion's millilitres by a model, of what was last shown of its slices."""
        slices = self.segmentation.marked_slices(model, lesion)
        return sum(self.slice_ml.get(k, {}).get(model, {}).get(lesion, 0.0) for k in slices)

    def unrefined(self, k: int, model: str) -> list[Box]:
        """The boxes of slice k whose mask by a model is neither refined yet nor corrected by hand."""
        marked = self.segmentation
        return [
            box
            for lesion in marked.lesions
            if marked.origin(k, lesion.id, model) != "edited"
            for box in marked.boxes(k, lesion.id)
            if (kept := self.box_masks.get((k, model, box))) is None or not kept.refined
        ]


@dataclass(frozen=True)
class _BoxMask:
    """One box's mask: packed bits, deflated, and whether it was refined."""

    deflated: bytes
    refined: bool


@dataclass(frozen=True)
class Asked:
    """What people say beside the marks: hours between the scans, the definitions' numbers, the scores' findings."""

    hours: float | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    findings: Findings = field(default_factory=Findings)


@dataclass
class Upload:
    """Files that a person gave, moved into the session's own folder."""

    folder: Path
    paths: list[Path]


@dataclass
class Session:
    """One open page. Hold ``lock`` while working on it."""

    private: Path
    """Uploads: never served."""
    public: Path
    """What the page fetches: voxels and downloads, in folders of unguessable names."""
    cases: dict[Role, Case] = field(default_factory=dict)
    role: Role = "baseline"
    """Which of the person's two scans is on screen."""
    asked: Asked = field(default_factory=Asked)
    """What the growth between them and the scores are asked with."""
    refused: Upload | None = None
    """The last files that could not be opened: they may be with a correction."""
    done: int = 0
    """The last operation of the page that was carried out."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set where the person no longer wants what is under way."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    closed: bool = False

    @property
    def case(self) -> Case | None:
        """The scan on screen."""
        return self.cases.get(self.role)

    def new_folder(self) -> Path:
        """A folder for a file that the page fetches; its name cannot be guessed from outside."""
        folder = self.public / secrets.token_urlsafe(18)
        folder.mkdir()
        return folder

    def write_view(self, content: bytes) -> Path:
        """A surface for the browser, in a file of its own in the place of the one before."""
        self.discard_view()
        path = self.new_folder() / "view.glb"
        write_whole(path, content)
        return path

    def discard_view(self) -> None:
        """Delete the surface: the browser has it, or another one comes."""
        for path in self.public.glob("*/view.glb"):
            shutil.rmtree(path.parent, ignore_errors=True)

    def discard_voxels(self) -> None:
        """Delete the files of voxels, and leave their folders."""
        for path in self.public.glob("*/voxels.gz"):
            path.unlink(missing_ok=True)

    def take(self, paths: Sequence[Path], names: Sequence[str]) -> Upload:
        """Move uploaded files into the session, each under its own name."""
        folder = Path(tempfile.mkdtemp(dir=self.private))
        taken = []
        for number, (path, name) in enumerate(zip(paths, names, strict=True)):
            place = folder / str(number)
            place.mkdir()
            taken.append(Path(shutil.move(path, place / name)))
            with suppress(OSError):
                path.parent.rmdir()  # Gradio made it for this one file
        return Upload(folder, taken)

    def write_voxels(self, volume: CTVolume) -> Path:
        """The scan for the browser: int16 little-endian HU [z, y, x], gzipped, in a file of its own.

        Each row holds differences to the pixel on the left, which compress by a third better.
        """
        hu = volume.hu_zyx
        if hu.dtype != np.int16:
            hu = np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
        steps = np.diff(hu, axis=2, prepend=np.int16(0)).astype("<i2")
        path = self.new_folder() / "voxels.gz"
        content = gzip.compress(np.ascontiguousarray(steps).tobytes(), compresslevel=1)
        write_whole(path, content)
        return path


class SessionStore:
    """The sessions of the process by Gradio's session hash.

    The volumes are bounded in bytes: those of the sessions that were used least recently are dropped
    first, and rebuilt when their page asks again. All files of a session go with it; only what lies
    below ``public`` may be served.
    """

    def __init__(
        self,
        budget_bytes: int = BUDGET_BYTES,
        on_evict: Callable[[Case], None] = lambda case: None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._root = Path(tempfile.mkdtemp(prefix="ichseg-")).resolve()
        self.public = self._root / "public"
        self.public.mkdir()
        self._on_evict = on_evict
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, session_hash: str) -> Session:
        """The session of a page, made when it is first heard of."""
        with self._lock:
            session = self._sessions.get(session_hash)
            if session is None:
                session = Session(
                    Path(tempfile.mkdtemp(dir=self._root)), Path(tempfile.mkdtemp(dir=self.public))
                )
                self._sessions[session_hash] = session
            self._sessions.move_to_end(session_hash)
            surplus = list(self._sessions)[: max(0, len(self._sessions) - MAX_SESSIONS)]
        for other in surplus:
            self.drop(other)
        return session

    def open(self, session: Session, case: Case, role: Role = "baseline") -> None:
        """Make a case the session's own and show it; what it takes the place of is dropped with its files.

        A new baseline takes the place of both scans: a follow-up is of the same person.
        """
        formers = [session.cases.pop(name, None) for name in (role, "followup")]
        if role == "baseline":
            session.asked = Asked()
        session.cases[role], session.role = case, role
        if session.refused is not None and session.refused is not case.upload:
            self.discard(session.refused)
        session.refused = None
        for former in formers:
            if former is not None:
                self._close(former, case.upload)
        self._shrink(case)

    def close_followup(self, session: Session) -> None:
        """Drop the follow-up and show the baseline."""
        followup = session.cases.pop("followup", None)
        session.role = "baseline"
        if followup is not None:
            self._close(followup)

    def _close(self, case: Case, kept: Upload | None = None) -> None:
        self._on_evict(case)
        if case.upload is not None and case.upload is not kept:
            self.discard(case.upload)

    def volume(self, session: Session) -> CTVolume:
        """The session's volume, rebuilt from its upload where it was dropped to make room.

        Raises VolumeError where there is no scan, or its files are no longer there.
        """
        case = session.case
        if case is None:
            raise VolumeError("A box needs a scan, and none is open; open one first.")
        if case.volume is None:
            try:
                case.volume = case.read()
            except (InputError, OSError) as error:
                raise VolumeError(
                    "A scan that was not used for a while was put aside to make room, and its upload can no longer be "
                    f"read ({error}); open it again."
                ) from error
            self._shrink(case)
        return case.volume

    def drop(self, session_hash: str) -> None:
        """End a session: its case, its embeddings and its files are gone."""
        with self._lock:
            session = self._sessions.pop(session_hash, None)
        if session is None:
            return
        session.closed = True
        with session.lock:
            for case in session.cases.values():
                self._on_evict(case)
            session.cases.clear()
            shutil.rmtree(session.private, ignore_errors=True)
            shutil.rmtree(session.public, ignore_errors=True)

    def close(self) -> None:
        """End all sessions and remove the folder of all."""
        for session_hash in list(self._sessions):
            self.drop(session_hash)
        shutil.rmtree(self._root, ignore_errors=True)

    @staticmethod
    def discard(upload: Upload) -> None:
        """Delete uploaded files."""
        shutil.rmtree(upload.folder, ignore_errors=True)

    @property
    def nbytes(self) -> int:
        """Bytes of voxels held now."""
        with self._lock:
            return sum(case.volume.hu_zyx.nbytes for case in self._cases() if case.volume)

    def _cases(self) -> list[Case]:
        return [case for session in self._sessions.values() for case in session.cases.values()]

    def _shrink(self, keep: Case) -> None:
        """Drop the volumes that were used least recently until the budget is met; never the one in use."""
        evicted = []
        with self._lock:
            held = [case for case in self._cases() if case.volume is not None]
            total = sum(case.volume.hu_zyx.nbytes for case in held if case.volume is not None)
            for case in held:
                if total <= self.budget_bytes:
                    break
                if case is not keep and case.volume is not None:
                    total -= case.volume.hu_zyx.nbytes
                    case.volume = None
                    evicted.append(case)
        for case in evicted:
            self._on_evict(case)


def safe_name(name: str) -> str:
    """A file name that a page sent, cut to what is harmless in a path."""
    base = os.path.basename(name.replace("\\", "/")).lstrip(".")
    harmless = "".join(c if c.isalnum() or c in "._- ()+" else "_" for c in base)
    # A file system counts bytes. The end is kept: it says what the file is.
    return harmless.encode(errors="replace")[-MAX_NAME_BYTES:].decode(errors="ignore") or "scan"
