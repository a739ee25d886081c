"""A scan of the study that the page was started for: opened with what is marked on it, its correction saved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ichseg.errors import InputError
from ichseg.files.records import json_bytes
from ichseg.files.session import load_session
from ichseg.page.case import Case
from ichseg.page.going_on import go_on
from ichseg.page.measuring import marks_record_of
from ichseg.page.opening import methods, show
from ichseg.page.panel import Operation
from ichseg.page.progress import progress
from ichseg.page.protocol import Nothing, Text
from ichseg.page.refining import refined
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work, check_each_marked

if TYPE_CHECKING:
    from ichseg.cohort.study import Study


@dataclass(frozen=True)
class OpenRow:
    """Open a scan of the study, as its report links to it."""

    key: Text


def _open(work: Work, session: Session, op: OpenRow, reply: Reply) -> Iterable[Reply]:
    yield progress("Reading the scan", cancel=True)
    study = _study(work)
    row = study.row(op.key)
    record = load_session(study.record(row))
    entry = row.entry
    read = partial(
        work.read_scan, entry.path, series=entry.series, add_offset=entry.add_offset or 0
    )
    case = Case(read, methods(session), study_row=row)
    assert case.volume is not None
    record.check_scan(case.volume)
    yield from show(work, session, "baseline", case, reply)
    yield from go_on(work, session, record, reply)


def _save(work: Work, session: Session, op: Nothing, reply: Reply) -> Iterable[Reply]:
    study = _study(work)
    with session.lock:
        case, volume = work.case(session)
        model = case.models[0]
        row = case.study_row
        if row is None:
            raise InputError(
                "A correction is saved of a scan that a link of the study's report opened; this one came otherwise; "
                "download its session."
            )
        check_each_marked(case, model, "A correction")
        marked = case.segmentation.marked_slices()
    yield from refined(work, session, model, marked, reply)
    yield progress("Saving the correction")
    with session.lock:
        method = work.method(case, model)
        content = json_bytes(marks_record_of(case.segmentation, volume, method))
    numbers = study.save(row, content)
    reply["corrected"] = True
    named = ("scan " if len(numbers) == 1 else "scans ") + ", ".join(map(str, numbers))
    reply["said"] = [
        f"Saved: {named} will be made from this correction. Run ichseg segment with the same scans and --out "
        "again, then ichseg report; nothing else is computed anew."
    ]


def _study(work: Work) -> Study:
    if work.study is None:
        raise InputError(
            "A link of a report opens a scan on a page that was started for the study; this one was not; start it "
            "with ichseg page --study SCANS RESULTS, or open the scan and its record by hand."
        )
    return work.study


OPERATIONS = (
    Operation("study_open", OpenRow, _open, opens=True),
    Operation("study_save", Nothing, _save),
)
