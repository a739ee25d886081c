"""What each open page holds: its scan, boxes, masks and files. Nothing of anybody's is shared between sessions."""

from __future__ import annotations

import gzip
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ichseg.errors import InputError, VolumeError, check_cancelled
from ichseg.measures.growth import Thresholds
from ichseg.measures.growth_range import GrowthRange, Known
from ichseg.measures.scores import Findings
from ichseg.page.case import Case, Upload
from ichseg.page.folders import ServerFolder
from ichseg.page.jobs import Job
from ichseg.page.leases import Clock, Lease, Rate, Terms
from ichseg.page.memory import give_back
from ichseg.replace_file import write_whole
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume

Role = Literal["baseline", "followup"]

#: Scans held in memory by the whole process, in bytes of voxels; a usual head CT is 16 to 32 MB.
BUDGET_BYTES = 2 << 30

#: Open pages. Where all places are taken, whoever comes next is told so; nobody's page is closed for theirs.
MAX_SESSIONS = 200

#: Files of one page that it may fetch; beyond these the oldest goes.
MAX_DOWNLOADS = 24

#: How long whoever ends a session waits for what is under way in it to leave its files alone.
CLOSING_SECONDS = 5.0

#: Of an uploaded file's name, in UTF-8.
MAX_NAME_BYTES = 100


@dataclass(frozen=True)
class Asked:
    """What people say beside the marks: hours between the scans, the definitions' numbers, the scores' findings."""

    hours: float | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    findings: Findings = field(default_factory=Findings)


@dataclass
class GrowthDrawn:
    """What is known of a growth's range: ``key`` says of which marks, method and registration."""

    key: object
    known: Known = field(default_factory=dict)
    found: GrowthRange | None = None


@dataclass(frozen=True)
class Answered:
    """The answer to a page's last operations, for a page that did not hear it and sends them again."""

    ids: frozenset[int] = frozenset()
    reply: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Session:
    """One open page. Hold ``lock`` while working on it."""

    private: Path
    """Uploads: never served."""
    public: Path
    """What the page fetches: voxels and downloads, in folders of unguessable names."""
    lease: Lease = field(default_factory=lambda: Lease(Terms()))
    cases: Mapping[Role, Case] = field(default_factory=dict)
    """Never changed in place: whoever reads it without the lock has all of one moment."""
    role: Role = "baseline"
    """Which of the person's two scans is on screen."""
    past: deque[str] = field(default_factory=lambda: deque(maxlen=16))
    """The tokens of scans that the page had open before."""
    asked: Asked = field(default_factory=Asked)
    """What the growth between them and the scores are asked with."""
    registered: tuple[frozenset[str], Registration] | None = None
    """The tokens of the two scans that were registered last, and the motion from the follow-up to the baseline."""
    drawn: GrowthDrawn | None = None
    """The range of the growth between the two scans, as far as it is computed; the request in passing works on it."""
    refused: Upload | None = None
    """The last files that could not be opened: they may be with a correction."""
    done: int = 0
    """The last operation of the page that was carried out."""
    answered: Answered = field(default_factory=Answered)
    job: Job | None = None
    """What the page asked for last; ``turn`` is held while it is looked up and begun."""
    waiting: int = 0
    """How many requests of the page wait for operations to be done; ``turn`` is held to count."""
    arrived: int = 0
    """How many such requests there were: the latest is the one that the page listens to."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    passing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one request in passing that is at work for the page."""
    looking: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one hint that embeds a slice for the page."""
    rate: Rate = field(default_factory=Rate)
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set where the person no longer wants what is under way."""
    cancelled_to: int = 0
    """The last operation that the person no longer wants."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    closed: bool = False

    @property
    def case(self) -> Case | None:
        """The scan on screen."""
        return self.cases.get(self.role)

    @property
    def tokens(self) -> set[str]:
        """What the page's scans are called: who names one of them is that page."""
        return {case.token for case in self.cases.values()}

    @property
    def has_ended(self) -> bool:
        """Whether its lease has run out, and no request of the page waits for an answer."""
        return not self.waiting and self.lease.ended is not None

    def cancel(self, to: int) -> None:
        """End what is under way, and the operations up to a number that are still to come."""
        self.cancelled_to = max(self.cancelled_to, to)
        self.cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether what is under way is to end: the person wants it no longer, or the page is gone."""
        return self.closed or self.cancelled.is_set()

    @property
    def is_spare(self) -> bool:
        """Whether the page has not been heard of for a while, and nothing is lost with it."""
        if self.waiting or self.lease.silent_seconds <= self.lease.terms.spare_seconds:
            return False
        marked = (case.segmentation for case in self.cases.values())
        return not any(one.can_undo or one.can_redo or one.marked_slices() for one in marked)

    def new_folder(self) -> Path:
        """A folder for a file that the page fetches; its name cannot be guessed from outside."""
        found = {}
        for one in self.public.iterdir():
            with suppress(OSError):  # another thread may delete one meanwhile
                found[one] = one.stat().st_mtime
        folders = sorted(found, key=lambda one: found[one])
        for old in folders[: max(0, len(folders) - MAX_DOWNLOADS + 1)]:
            shutil.rmtree(old, ignore_errors=True)
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

    def discard_voxels(self, but: Path | None = None) -> None:
        """Delete the files of voxels but one, and leave their folders."""
        for path in self.public.glob("*/voxels.gz"):
            if path != but:
                path.unlink(missing_ok=True)

    def new_private(self) -> Path:
        """A folder of the session's own that is never served."""
        return Path(tempfile.mkdtemp(dir=self.private))

    def take(self, paths: Sequence[Path], names: Sequence[str]) -> Upload:
        """Move uploaded files into the session, each under its own name."""
        folder = self.new_private()
        taken = []
        for number, (path, name) in enumerate(zip(paths, names, strict=True)):
            place = folder / str(number)
            place.mkdir()
            taken.append(Path(shutil.move(path, place / name)))
        return Upload(folder, taken)

    def write_voxels(self, volume: CTVolume) -> Path:
        """The scan for the browser: int16 little-endian HU [z, y, x], gzipped, in a file of its own.

        Each row holds differences to the pixel on the left, which compress by a third better.
        """
        path = self.new_folder() / "voxels.gz"
        try:
            with path.open("xb") as file, gzip.GzipFile("", "wb", 1, file, mtime=0) as packed:
                for plane in volume.hu_zyx:
                    check_cancelled()
                    hu = plane
                    if hu.dtype != np.int16:
                        hu = np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
                    steps = np.diff(hu, axis=1, prepend=np.int16(0)).astype("<i2")
                    packed.write(np.ascontiguousarray(steps).tobytes())
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        return path


class SessionStore:
    """The sessions of the process by Gradio's session hash.

    A page gets a place when it first opens a scan, and keeps it for as long as its lease holds (``leases``). Where all
    places are taken, one goes to whoever comes next only if its lease has ended, or nothing is lost with it.

    The volumes are bounded in bytes: those of the sessions that were used least recently are dropped
    first, and rebuilt when their page asks again. All files of a session go with it; only what lies
    below ``public`` may be served.
    """

    def __init__(
        self,
        budget_bytes: int = BUDGET_BYTES,
        on_evict: Callable[[Case], None] = lambda case: None,
        *,
        folder: ServerFolder | None = None,
        terms: Terms | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.folder = folder or ServerFolder()
        self.public = self.folder.public
        self.terms = terms or Terms()
        self._clock = clock
        self._on_evict = on_evict
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, session_hash: str) -> Session | None:
        """The session of a page; None where it has no place."""
        with self._lock:
            session = self._sessions.get(session_hash)
            if session is not None:
                self._sessions.move_to_end(session_hash)
            return session

    def get(self, session_hash: str) -> Session:
        """The session of a page, which gets a place where it has none.

        Raises InputError where all places are taken.
        """
        leaving: list[str] = []
        try:
            with self._lock:
                session = self._sessions.get(session_hash)
                if session is None:
                    leaving = self._ended()
                    if len(self._sessions) - len(leaving) >= MAX_SESSIONS:
                        leaving += self._spare(leaving)[:1]
                    if len(self._sessions) - len(leaving) >= MAX_SESSIONS:
                        raise InputError(
                            f"The server has room for {MAX_SESSIONS} open pages, and all are in use; wait until one "
                            "is closed, and try again."
                        )
                    session = Session(
                        self.folder.new_private(),
                        self.folder.new_public(),
                        Lease(self.terms, self._clock),
                        rate=Rate(clock=self._clock),
                    )
                    self._sessions[session_hash] = session
                self._sessions.move_to_end(session_hash)
        finally:
            for other in leaving:
                self.drop(other)
        return session

    def guest(self) -> Session:
        """A session for what a page asks before it has a place; it holds nothing, and nobody finds it again."""
        nowhere = self.folder.path / "nowhere"
        return Session(nowhere, nowhere, Lease(self.terms, self._clock))

    def renew(self, token: str) -> bool:
        """A page says that it is there; False where its lease has ended, or is another server's."""
        session_hash, session = self._leased(token)
        if session is None or session_hash is None:
            return False
        if session.has_ended:
            self.drop(session_hash)
            return False
        session.lease.renew()
        return True

    def release(self, token: str) -> None:
        """A page says that it is closed."""
        session_hash, _ = self._leased(token)
        if session_hash is not None:
            self.drop(session_hash)

    def sweep(self) -> None:
        """End the sessions whose lease has ended, and delete uploads that nobody opened."""
        with self._lock:
            ended = self._ended()
        for session_hash in ended:
            self.drop(session_hash)
        self.folder.sweep_uploads()

    def silent_cases(self) -> list[Case]:
        """The scans of pages that were not heard of for a while."""
        with self._lock:
            silent = [
                session
                for session in self._sessions.values()
                if session.lease.silent_seconds > self.terms.spare_seconds
            ]
        return [case for session in silent for case in session.cases.values()]

    def _leased(self, token: str) -> tuple[str | None, Session | None]:
        with self._lock:
            for session_hash, session in self._sessions.items():
                if secrets.compare_digest(session.lease.token.encode(), token.encode()):
                    return session_hash, session
        return None, None

    def _ended(self) -> list[str]:
        return [name for name, session in self._sessions.items() if session.has_ended]

    def _spare(self, leaving: Sequence[str]) -> list[str]:
        """Pages with nothing to lose, those that were not heard of for the longest time first."""
        spare = {
            name: session.lease.silent_seconds
            for name, session in self._sessions.items()
            if name not in leaving and session.is_spare
        }
        return sorted(spare, key=lambda name: spare[name], reverse=True)

    def open(self, session: Session, case: Case, role: Role = "baseline") -> None:
        """Make a case the session's own and show it; what it takes the place of is dropped with its files.

        A new baseline takes the place of both scans: a follow-up is of the same person.
        """
        formers = [session.cases.get(name) for name in dict.fromkeys((role, "followup"))]
        kept = {name: one for name, one in session.cases.items() if one not in formers}
        if role == "baseline":
            session.asked = Asked()
        session.cases, session.role, session.drawn = {**kept, role: case}, role, None
        if session.refused is not None and session.refused is not case.upload:
            self.discard(session.refused)
        session.refused = None
        for former in formers:
            if former is not None:
                session.past.append(former.token)
                self._close(former, case.upload)
        self._shrink(case)

    def close_followup(self, session: Session) -> None:
        """Drop the follow-up and show the baseline."""
        followup = session.cases.get("followup")
        session.cases = {name: case for name, case in session.cases.items() if name != "followup"}
        session.role, session.drawn = "baseline", None
        if followup is not None:
            session.past.append(followup.token)
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
        volume = case.volume
        if volume is None:
            try:
                volume = case.volume = case.read()
            except (InputError, OSError) as error:
                raise VolumeError(
                    "A scan that was not used for a while was put aside to make room, and its upload can no longer be "
                    f"read ({error}); open it again."
                ) from error
            self._shrink(case)
        return volume

    def drop(self, session_hash: str) -> None:
        """End a session: its case, its embeddings and its files are gone."""
        with self._lock:
            session = self._sessions.pop(session_hash, None)
        if session is None:
            return
        session.closed = True  # which ends what is under way for it
        held = session.lock.acquire(timeout=CLOSING_SECONDS)
        try:
            cases, session.cases = session.cases, {}
            for case in cases.values():
                self._on_evict(case)
            shutil.rmtree(session.private, ignore_errors=True)
            shutil.rmtree(session.public, ignore_errors=True)
        finally:
            if held:
                session.lock.release()
            give_back()

    def close(self) -> None:
        """End all sessions and remove the folder of all."""
        with self._lock:
            names = list(self._sessions)
            for session in self._sessions.values():
                session.closed = True  # all at once: none waits for the work of another
        for session_hash in names:
            self.drop(session_hash)
        self.folder.close()

    @staticmethod
    def discard(upload: Upload) -> None:
        """Delete uploaded files."""
        shutil.rmtree(upload.folder, ignore_errors=True)

    @property
    def nbytes(self) -> int:
        """Bytes of voxels held now."""
        with self._lock:
            return sum(volume.hu_zyx.nbytes for case in self._cases() if (volume := case.volume))

    def _cases(self) -> list[Case]:
        return [case for session in self._sessions.values() for case in session.cases.values()]

    def _shrink(self, keep: Case) -> None:
        """Drop the volumes that were used least recently until the budget is met; never the one in use."""
        evicted = []
        with self._lock:
            held = [
                (case, volume.hu_zyx.nbytes) for case in self._cases() if (volume := case.volume)
            ]
            total = sum(nbytes for _, nbytes in held)
            for case, nbytes in held:
                if total <= self.budget_bytes:
                    break
                if case is not keep:
                    total -= nbytes
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
