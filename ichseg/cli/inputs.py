"""What the options name: scans, boxes, models, and all files that a run reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ichseg.cohort import Prompts, parse_box
from ichseg.errors import InputError
from ichseg.files.names import lesions_path
from ichseg.marks.box import Box
from ichseg.methods.catalogue import CATALOGUE, available
from ichseg.replace_file import inputs_of
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    pass


def read_scan(path: Path, series: str | None, add_offset: int) -> CTVolume:
    """The scan, with a word on stderr while it is read."""
    with Console(stderr=True).status(f"Reading {path.name}"):
        return read_volume(path, series=series, add_offset=add_offset)


def prompts_of(slices: Sequence[int] | None, boxes: Sequence[str] | None) -> Prompts:
    """The --slice and --box options as boxes by (slice, lesion)."""
    slices, boxes = slices or [], boxes or []
    if not boxes or len(slices) != len(boxes):
        raise InputError(
            f"Every --box goes with a --slice, and there is at least one; got {len(slices)} --slice and "
            f"{len(boxes)} --box; give e.g. --slice 12 --box 120,80,180,140."
        )
    prompts: Prompts = {}
    for k, text in zip(slices, boxes, strict=True):
        lesion, box = parse_box(text)
        prompts.setdefault((k, lesion), []).append(box)
    return prompts


def boxes_by_slice(
    slices: Sequence[int] | None, boxes: Sequence[str] | None
) -> dict[int, list[Box]]:
    """The same, of all lesions together: boxes by slice."""
    found: dict[int, list[Box]] = {}
    for (k, _), drawn in prompts_of(slices, boxes).items():
        found.setdefault(k, []).extend(drawn)
    return found


def model_names(models: str | None) -> list[str]:
    """The --models option as names, each once; all that can be loaded where it is not given."""
    if models is None:
        return [name for name in CATALOGUE if available(name)[0]]
    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    if not names:
        raise InputError(
            f"--models names at least one model; got '{models}'; choose from {', '.join(CATALOGUE)}."
        )
    return names


def input_files(*paths: Path | None) -> list[Path]:
    """All that is read where these are given: ``inputs_of`` each, whatever it is."""
    return [one for path in paths if path is not None for one in inputs_of(path)]


def mask_files(*masks: Path) -> list[Path]:
    """Masks, and the files beside them that say what their labels are."""
    return [one for mask in masks for one in (*inputs_of(mask), lesions_path(mask))]
