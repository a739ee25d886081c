"""Opening a scan: uploaded files, one of their series, or the sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from ichseg.errors import InputError, VolumeError
from ichseg.page.case import Case, Upload
from ichseg.page.opening import Reopen, check_role, methods, open_upload, remedy, show
from ichseg.page.panel import Operation
from ichseg.page.progress import progress
from ichseg.page.protocol import Files, Nothing, Role
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work
from ichseg.sample import sample_paths


@dataclass(frozen=True)
class Sample:
    """Open the sample, or its follow-up."""

    role: Role = "baseline"


@dataclass(frozen=True, kw_only=True)
class Open(Reopen):
    """Open newly uploaded files."""

    files: Files


def _sample(work: Work, session: Session, op: Sample, reply: Reply) -> Iterable[Reply]:
    yield progress("Reading the scan", cancel=True)
    check_role(session, op.role)
    path, _ = sample_paths(op.role == "followup")
    case = Case(partial(work.read_sample, path), methods(session), is_sample=True)
    yield from show(work, session, op.role, case, reply)


def _files(work: Work, session: Session, op: Reopen, reply: Reply) -> Iterable[Reply]:
    yield progress("Reading the scan", cancel=True)
    try:
        with session.lock:
            check_role(session, op.role)
            upload = _upload(work, session, op)
        yield from open_upload(work, session, op, upload, reply)
    except InputError as error:
        cure = remedy(session, op, error, new=isinstance(op, Open))
        reply["error"] = {"text": str(error), **cure}


def _upload(work: Work, session: Session, op: Reopen) -> Upload:
    """The files to read: newly arrived ones, or those given before."""
    if isinstance(op, Open):
        return work.take(session, op.files)
    case = session.case
    upload = case.upload if case and op.series and not op.refused else session.refused
    if upload is None:
        raise VolumeError("A scan is opened again from its files; none are here; upload them.")
    return upload


def _fetched(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    """The browser has the voxels or the surface: their file need not lie about any longer."""
    with session.lock:
        session.discard_voxels()
        session.discard_view()
        case, _ = work.case(session)
        work.tell_method(case, reply)
    return ()


OPERATIONS = (
    Operation("sample", Sample, _sample, opens=True),
    Operation("open", Open, _files, opens=True),
    Operation("reopen", Reopen, _files, opens=True),
    Operation("fetched", Nothing, _fetched),
)
