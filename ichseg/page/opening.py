"""What opens a scan, wherever its files come from: they are read, shown, and kept where they could not be opened."""

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
from ichseg.page.progress import progress
from ichseg.page.protocol import Role, Text
from ichseg.page.sessions import Session
from ichseg.page.state import scan_state, series_state
from ichseg.page.work import Reply, Work
from ichseg.scan.series_info import SeriesError

#: How long the background keeps still once a scan is open: the browser has it to fetch and to draw meanwhile, and a
#: slice that is begun keeps whoever draws at once waiting.
OPENING_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True)
class Reopen:
    """Open files again that are here: one of their series, or with HU that are corrected by an offset."""

    role: Role = "baseline"
    series: Text | None = None
    add_offset: Annotated[int, Field(ge=-65536, le=65536)] = 0
    refused: bool = False
    """Whether the files that were given last and refused are meant, not the open scan's."""


def check_role(session: Session, role: Role) -> None:
    """Refuse a follow-up without a baseline."""
    if role == "followup" and "baseline" not in session.cases:
        raise VolumeError(
            "A follow-up is compared with a baseline; no scan is open; open the first scan first."
        )


def methods(session: Session) -> tuple[str, ...]:
    """The methods of a newly opened scan: those chosen before, else the defaults."""
    case = session.case
    if case is not None:
        return case.models
    return catalogue.default_model(), catalogue.default_baseline()


def open_upload(
    work: Work, session: Session, op: Reopen, upload: Upload, reply: Reply
) -> Iterable[Reply]:
    """Read files of the session's own, and make them its scan; those that cannot be opened are kept as refused ones."""
    yield progress("Reading the scan", cancel=True)
    paths: Any = upload.paths if len(upload.paths) > 1 else upload.paths[0]
    read = partial(work.read_scan, paths, series=op.series, add_offset=op.add_offset)
    try:
        # The session is free meanwhile: what is on screen can be looked at until the new scan is there.
        case = Case(read, methods(session), upload)
        yield from show(work, session, op.role, case, reply)
    except BaseException:
        with session.lock:
            if upload not in [one.upload for one in session.cases.values()]:
                _refuse(work, session, upload)
        raise


def show(work: Work, session: Session, role: Role, case: Case, reply: Reply) -> Iterable[Reply]:
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


def remedy(session: Session, op: Reopen, error: InputError, *, new: bool) -> Reply:
    """What may cure an error beside its text: "fix", a button, and "choose", the series to open instead.

    ``new``: whether the files were given just now. "fix" has the offset that the reader suggests, as a label and an
    operation. "choose" has the "series" as ``series_state`` gives them, and the "op" that opens one of them with its
    key as "series".
    """
    out: Reply = {}
    series = error.series if isinstance(error, SeriesError) else ()
    if series:
        # Files that were given just now are kept as refused ones; a series of the open scan is asked of that.
        refused = new or not op.series or op.refused
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


def _refuse(work: Work, session: Session, upload: Upload) -> None:
    """Keep files that could not be opened: they may be with a correction."""
    if session.refused is not None and session.refused is not upload:
        work.store.discard(session.refused)
    session.refused = upload
