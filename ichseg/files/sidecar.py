"""The file beside a mask that says what its labels stand for: written, and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.files.mask_header import checked_record
from ichseg.files.names import lesions_path
from ichseg.files.records import json_bytes, lesions_record
from ichseg.json_fields import RecordError, json_field, load_json
from ichseg.marks.lesion import Lesion
from ichseg.marks.record import read_lesion_rows
from ichseg.scan.volume import CTVolume


def read_lesions(mask_path: str | Path) -> list[Lesion]:
    """The lesions that a mask's labels stand for, from the file beside it; empty where there is none."""
    return list(read_sidecar(mask_path).get("lesions", ()))


def read_sidecar(mask_path: str | Path) -> dict[str, Any]:
    """What the file beside a mask says.

    ``lesions`` (a tuple of ``Lesion``), ``volumes_ml`` by number where it has them, and the keys of ``mask_record``.
    Empty where there is no such file. Raises InputError where it is not what ``save_mask`` writes.
    """
    path = lesions_path(Path(mask_path))
    if not path.is_file():
        return {}
    try:
        record = load_json(path)
        rows = json_field(record, "lesions", "a list")
        lesions = read_lesion_rows(rows)
        volumes_ml = {
            row["id"]: float(json_field(row, "volume_ml", "a number", f"lesion {row['id']}"))
            for row in rows
            if "volume_ml" in row
        }
        return {**checked_record(record), "lesions": lesions, "volumes_ml": volumes_ml}
    except (OSError, RecordError) as error:
        why = f"it cannot be read, {error.strerror}" if isinstance(error, OSError) else str(error)
        raise InputError(
            f"What a mask's labels stand for is JSON with a list of lesions; {path.name} is not: {why}; "
            "delete it, or save the mask again."
        ) from error


def is_sidecar(path: Path) -> bool:
    """Whether a file says what the labels of some mask stand for, as ``save_mask`` writes it."""
    try:
        read_lesion_rows(json_field(load_json(path), "lesions", "a list"))
    except (OSError, RecordError):
        return False
    return True


def sidecar_bytes(
    labels_zyx: npt.NDArray[Any],
    volume: CTVolume,
    lesions: Sequence[Lesion],
    record: Mapping[str, Any],
) -> bytes:
    """What it says: the mask's own record, and of each lesion its fields and its volume, of labels [z, y, x]."""
    return json_bytes({**record, "lesions": lesions_record(labels_zyx, volume, lesions)})
