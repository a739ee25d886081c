"""What a mask of a file is measured to be, and the JSON object of ``ichseg measure``: command line and API give it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ichseg.files.mask import LabelledMask
from ichseg.files.records import scan_record, table_record
from ichseg.measures import fields, growth
from ichseg.measures.assessment import Assessment, assess, read_from_file
from ichseg.measures.scores import Score
from ichseg.measures.timeline import Timeline, timeline_record
from ichseg.scan.volume import CTVolume


def assess_read(given: LabelledMask, typed: LabelledMask, volume: CTVolume) -> Assessment:
    """All measures of a mask that was read from a file; ``typed`` is it with a lesion for each label."""
    # Not what was noted when the file was read: that names the file.
    notes = typed.notes[len(given.notes) :]
    found = assess(typed.labels_zyx, volume, typed.lesions, notes=notes)
    return read_from_file(found, given.method)


def measure_record(
    found: Sequence[Assessment],
    notes: Sequence[Iterable[str]],
    *,
    over_time: Timeline | None = None,
    strict: bool = False,
    scores: Iterable[Score] = (),
) -> dict[str, Any]:
    """The JSON object of ``ichseg measure`` without versions and notice (``cli.measure`` says its keys).

    ``found`` is the baseline, or all scans of ``over_time``; ``notes`` are each one's sentences on its labels.
    """
    has_ivh = any(one.blood.has_ivh for one in found)
    measured = [_measured(one, said, has_ivh) for one, said in zip(found, notes, strict=True)]
    return {
        "baseline": measured[0],
        "followup": measured[1] if len(measured) > 1 else None,
        "further": measured[2:],
        "growth": None if over_time is None else _growth_record(over_time.growths[0], strict),
        "timeline": None if over_time is None else timeline_record(over_time),
        "scores": [asdict(score) for score in scores],
    }


def _measured(found: Assessment, notes: Iterable[str], has_ivh: bool) -> dict[str, Any]:
    """The record of one scan and its mask."""
    blood, hu = found.blood, found.total.hu
    return {
        "scan": scan_record(found.volume),
        "volume_ml": found.total.volume_ml,
        "iph_ml": blood.parenchymal_ml,
        "ivh_ml": blood.ivh_ml if has_ivh else None,
        "slices": table_record(found.blood_zyx, found.volume),
        "hu": None if hu is None else asdict(hu),
        "total": fields.measures_record(found.total),
        "lesions": [
            {**fields.measures_record(one), "name": lesion.name, "type": lesion.type}
            for lesion, one in zip(found.lesions, found.measures, strict=True)
        ],
        "notes": list(notes),
    }


def _growth_record(found: growth.Growth, strict: bool) -> dict[str, Any]:
    record = growth.growth_record(found)
    record["definitions"] = {one.pop("name"): one for one in record.pop("verdicts")}
    return {"strict": strict, **record}
