"""Opening a scan from the archive that the operator names, and sending what was measured back to it.

A person gives a study's UID or its accession number, and nothing else: address and credentials are the environment's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from ichseg.archive.transfer import connect, fetch, send
from ichseg.errors import InputError, VolumeError
from ichseg.files.write import for_archive
from ichseg.page import growth
from ichseg.page.case import Upload
from ichseg.page.opening import Reopen, check_role, open_upload, remedy
from ichseg.page.panel import Operation
from ichseg.page.progress import progress, steps, told
from ichseg.page.protocol import Nothing
from ichseg.page.refining import refined
from ichseg.page.sessions import Session
from ichseg.page.state import series_state
from ichseg.page.work import Reply, Work, check_complete
from ichseg.scan.series_info import SeriesError


@dataclass(frozen=True, kw_only=True)
class Fetch(Reopen):
    """Open the series of a study that fits, or the one asked for, from the archive."""

    wanted: Annotated[str, Field(max_length=64)]
    """The study's UID or its accession number."""


def _fetch(work: Work, session: Session, op: Fetch, reply: Reply) -> Iterable[Reply]:
    yield progress("Asking the archive", cancel=True)
    with session.lock:
        check_role(session, op.role)
    place = session.new_private()
    try:
        found = yield from told(
            "Fetching from the archive",
            steps(lambda tell: fetch(connect(), op.wanted, place, series=op.series, tell=tell)),
        )
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)
        if not isinstance(error, SeriesError):
            raise
        again = {"op": "archive", "wanted": op.wanted, "role": op.role}
        choose = {"op": again, "series": series_state(error.series)}
        reply["error"] = {"text": str(error), "choose": choose}
        return
    upload = Upload(place, [found.folder], found.study_uid, found.others)
    asked = replace(op, series=found.series.key)
    try:
        yield from open_upload(work, session, asked, upload, reply)
    except InputError as error:
        reply["error"] = {"text": str(error), **remedy(session, asked, error, new=True)}


def _send(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    with session.lock:
        case, volume = work.case(session)
        upload, model = case.upload, case.models[0]
        if upload is None or not upload.study_uid:
            raise VolumeError(
                "What is sent goes back to the archive that a scan came from; this scan did not come from it; open it "
                "from the archive first."
            )
        check_complete(case, model, "What is sent")
        marked = case.segmentation.marked_slices()
    yield from refined(work, session, model, marked, reply)
    yield progress("Measuring", cancel=True)
    with session.lock:
        method = work.method(case, model)
    measured = work.measured(session, case, volume, method)
    with case.measuring.lock:
        found = case.measuring.assessment(measured)
    with session.lock:
        found = growth.added(found, session, "")
    yield progress("Sending to the archive")
    reply["said"] = [send(connect(), upload.study_uid, for_archive(found, upload.paths))]


OPERATIONS = (
    Operation("archive", Fetch, _fetch, opens=True),
    Operation("send", Nothing, _send),
)
