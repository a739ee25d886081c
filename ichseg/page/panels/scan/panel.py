"""Opening a scan: uploaded files, one of their series, or the sample."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from ichseg.errors import InputError, VolumeError
from ichseg.methods import catalogue
from ichseg.page.case import Case, Upload
from ichseg.page.panel import Operation
from ichseg.page.progress import progress
from ichseg.page.protocol import Files, Nothing, Role, Text
from ichseg.page.sessions import Session
from ichseg.page.state import scan_state, series_state
from ichseg.page.work import Reply, Work
from ichseg.sample import sample_paths
from ichseg.scan.series_info import SeriesError

#: How long the background keeps still once a scan is open: the browser has it to fetch and to draw meanwhile, and a
#: slice that is begun keeps whoever draws at once waiting.
OPENING_SECONDS = 1.5


@dataclass(frozen=True)
class Sample:
    """Open the sample, or its follow-up."""

    role: Role = "baseline"


@dataclass(frozen=True, kw_only=True)
class Reopen:
    """Open files again that are here: one of their series, or with HU that are corrected by an offset."""

    role: Role = "baseline"
    series: Text | None = None
    add_offset: Annotated[int, Field(ge=-65536, le=65536)] = 0
    refused: bool = False
    """Whether the files that were given last and refused are meant, not the open scan's."""


@dataclass(frozen=True, kw_only=True)
class Open(Reopen):
    """Open newly uploaded files."""

    files: Files


def _sample(work: Work, session: Session, op: Sample, reply: Reply) -> Iterable[Reply]:
    yield progress("Reading the scan", cancel=True)
    _check_role(session, op.role)
    path, _ = sample_paths(op.role == "followup")
    case = Case(partial(work.read_scan, path), _methods(session), None)
    yield from _show(work, session, op.role, case, reply)


def _files(work: Work, session: Session, op: Reopen, reply: Reply) -> Iterable[Reply]:
    yield progress("Reading the scan", cancel=True)
    try:
        with session.lock:
            _check_role(session, op.role)
            upload = _upload(work, session, op)
        paths: Any = upload.paths if len(upload.paths) > 1 else upload.paths[0]
        read = partial(work.read_scan, paths, series=op.series, add_offset=op.add_offset)
        try:
            # The session is free meanwhile: what is on screen can be looked at until the new scan is there.
            case = Case(read, _methods(session), upload)
            yield from _show(work, session, op.role, case, reply)
        except BaseException:
            with session.lock:
                if upload not in [one.upload for one in session.cases.values()]:
                    _refuse(work, session, upload)
            raise
    except InputError as error:
        reply["error"] = {"text": str(error), **_remedy(session, op, error)}


def _check_role(session: Session, role: Role) -> None:
    if role == "followup" and "baseline" not in session.cases:
        raise VolumeError(
            "A follow-up is compared with a baseline; no scan is open; open the first scan first."
        )


def _methods(session: Session) -> tuple[str, ...]:
    """The methods of a newly opened scan: those chosen before, else the defaults."""
    case = session.case
    if case is not None:
        return case.models
    return catalogue.default_model(), catalogue.default_baseline()


def _show(work: Work, session: Session, role: Role, case: Case, reply: Reply) -> Iterable[Reply]:
    """Make a case the session's own, and tell the page of it."""
    volume = case.volume
    assert volume is not None
    yield progress("Preparing the scan", cancel=True)
    voxels = session.write_voxels(volume)
    with session.lock:
        work.store.open(session, case, role)
        session.discard_voxels(but=voxels)
        work.embeddings.admit(case.owner)
        work.embeddings.hold(OPENING_SECONDS)
        work.plan(case, volume, len(volume.hu_zyx) // 2)
    reply["slices"] = {}
    reply["scan"] = scan_state(case, volume, voxels)


def _upload(work: Work, session: Session, op: Reopen) -> Upload:
    """The files to read: newly arrived ones, or those given before."""
    if isinstance(op, Open):
        return work.take(session, op.files)
    case = session.case
    upload = case.upload if case and op.series and not op.refused else session.refused
    if upload is None:
        raise VolumeError("A scan is opened again from its files; none are here; upload them.")
    return upload


def _refuse(work: Work, session: Session, upload: Upload) -> None:
    """Keep files that could not be opened: they may be with a correction."""
    if session.refused is not None and session.refused is not upload:
        work.store.discard(session.refused)
    session.refused = upload


def _remedy(session: Session, op: Reopen, error: InputError) -> Reply:
    """What may cure an error beside its text: "fix", a button, and "choose", the series to open instead.

    "fix" has the offset that the reader suggests, as a label and an operation. "choose" has the "series" as
    ``series_state`` gives them, and the "op" that opens one of them with its key as "series".
    """
    out: Reply = {}
    series = error.series if isinstance(error, SeriesError) else ()
    if series:
        # Files that were given just now are kept as refused ones; a series of the open scan is asked of that.
        refused = isinstance(op, Open) or not op.series or op.refused
        choose = {"op": "reopen", "role": op.role, "refused": refused}
        out["choose"] = {"op": choose, "series": series_state(series)}
    found = re.search(r"open it with add_offset=(-?\d+)", str(error))
    if found is None or session.refused is None:
        return out
    offset = int(found.group(1))
    given = {"series": op.series, "refused": op.refused}
    same = {key: value for key, value in given.items() if value}
    return out | {
        "text": str(error).replace(found.group(), "use the button to correct it"),
        "fix": {
            "label": f"Add {offset} HU",
            "op": {"op": "reopen", "add_offset": offset, "role": op.role, **same},
        },
    }


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
