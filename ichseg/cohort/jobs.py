"""One scan of many: segment it, or compare models on it, and keep what was finished."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE
from ichseg.cohort.automatic import automatic_case
from ichseg.cohort.case import Case, prompted_document
from ichseg.cohort.corrections import corrected_record, scan_of
from ichseg.cohort.entry import DECIDES, Entry, Prompts, parse_prompts
from ichseg.cohort.rows import Extent, scan_rows
from ichseg.errors import InputError
from ichseg.files import write
from ichseg.files.labels import with_types
from ichseg.files.mask import read_labelled_mask
from ichseg.files.measured import assess_read
from ichseg.files.names import lesions_path, mask_name
from ichseg.files.records import json_bytes, lesions_record, scan_record, versions
from ichseg.files.session import SessionRecord, load_session
from ichseg.json_fields import RecordError, json_field, load_json
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.record import boxes_record
from ichseg.measures.agreement import dice
from ichseg.measures.volume import volume_ml
from ichseg.methods.catalogue import load_predictor, mask_identity
from ichseg.methods.detection import load_proposals
from ichseg.methods.identity import Identity, code_sha256
from ichseg.replace_file import check_not_an_input, inputs_of, write_whole
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor


@dataclass(frozen=True)
class Outcome:
    """What became of one scan. ``record`` is None, and ``error`` a sentence, where it was passed over."""

    entry: Entry
    state: Literal["done", "kept", "passed over"]
    record: Mapping[str, Any] | None = None
    error: str | None = None
    error_kind: str = ""
    """What kind of thing went wrong (``pool.Failure``)."""
    seconds: float | None = None
    """What the scan took when it was done."""


@dataclass(frozen=True)
class Segment:
    """Segment one scan into a folder: its mask, and the record from which the same mask is made again."""

    entry: Entry
    folder: Path
    model: str | None = None
    """For a scan with boxes that names no model; a record brings its own. None is the default model."""
    edge: bool = True
    """For a scan with boxes, whether to draw the edge at half height (``marks.edge``); a record says it itself."""
    inputs: tuple[Path, ...] = ()
    """What else the run reads from where this writes (``run`` says it)."""
    with_range: bool = False
    """Whether to draw boxes anew for the range of volumes (``measures.spread``)."""

    @property
    def record_path(self) -> Path:
        """Where its record goes, last of all."""
        return record_path(self.folder, self.entry)

    @property
    def outputs(self) -> list[Path]:
        """The files that it writes, as far as they are known before the scan is."""
        out = self.entry.out
        return [self.record_path, *(write.outputs(self.folder / out) if out else ())]

    def __call__(self) -> Outcome:
        started = time.perf_counter()
        entry = self._corrected()
        saved, prompts = _asked(entry)
        predictor = load_predictor(saved.model if saved else entry.model or self.model)
        look: bool | None = predictor.second_look
        on = self.edge if entry.edge is None else entry.edge
        if saved:
            look, on = saved.second_look, saved.edge
        identity = mask_identity(predictor, refinement=look, edge=on)
        finder = load_proposals() if entry.auto else None
        asked = {} if finder is None else {"finder": dict(finder.weights_sha256)}
        key = _key(entry, [identity], with_range=self.with_range, **asked)
        path, inputs = self.record_path, (*entry.inputs, *self.inputs)
        if (kept := finished(path, key)) is not None and (self.folder / kept["mask"]).is_file():
            return _kept(self.entry, kept)
        volume = read_volume(entry.path, series=entry.series, add_offset=entry.add_offset or 0)
        if saved:
            saved.check_scan(volume)
            saved.check_model(predictor)
        goes_on = bool(entry.propagate and not saved)
        if finder is None:
            marked = prompted_document(volume, prompts, {} if saved else entry.types, on)
            case = Case(volume, marked, predictor, goes_on, saved.automatic if saved else None)
        else:
            case = automatic_case(volume, predictor, on, propagate=goes_on, finder=finder)
        called = entry.out or f"{path.stem}-{mask_name(volume)}"
        mask_path = self.folder / called
        for output in (path, *write.outputs(mask_path)):
            check_not_an_input(output, inputs)
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        write.check_path(mask_path, volume, inputs, "mask")
        reference_zyx = _reference(entry, volume)
        done = case.run_again(saved) if saved else case.segmented()
        path.unlink(missing_ok=True)  # a record never stands beside another mask than its own
        write.save_marked(
            mask_path,
            done.marked,
            predictor.name,
            volume,
            made=done.identity.short,
            inputs=inputs,
        )
        record = done.record() | {"key": key, "mask": called}
        if reference_zyx is not None:
            mask_zyx = done.marked.mask_zyx(predictor.name)
            record["whole_scan"] = score_slices(
                mask_zyx, reference_zyx, volume, range(len(mask_zyx))
            )
        extent: Extent = "propagated" if entry.propagate else "boxed slices"
        if finder is not None:
            extent = "automatic"
        record["rows"] = scan_rows(
            done.assessment(self.with_range),
            extent="record" if saved else extent,
            lesions=done.marked.lesions,
            parts=done.marked.parts(predictor.name),
            notes=done.notes,
        )
        return _written(self.entry, path, record, started, inputs)

    def _corrected(self) -> Entry:
        """The entry, with a person's correction of its scan in the place of what was asked before."""

        def scan_sha256() -> str:
            if known := scan_of(self.record_path) if self.record_path.is_file() else "":
                return known
            entry = self.entry
            offset = entry.add_offset or 0
            return read_volume(entry.path, series=entry.series, add_offset=offset).sha256

        record = corrected_record(self.folder, scan_sha256)
        return (
            self.entry
            if record is None
            else replace(self.entry, session=record, boxes="", auto=False)
        )


@dataclass(frozen=True)
class Measure:
    """Measure a mask that was made before: a record of its measures into a folder."""

    entry: Entry
    folder: Path
    inputs: tuple[Path, ...] = ()
    """As of ``Segment``."""

    @property
    def outputs(self) -> list[Path]:
        """The one file that it writes."""
        return [self.folder / f"measures-{self.entry.number:04d}.json"]

    def __call__(self) -> Outcome:
        started, entry = time.perf_counter(), self.entry
        if entry.mask is None:
            raise InputError(
                f"What is measured is a scan's mask; row {entry.number} of the manifest has none; fill the column mask."
            )
        key = _key(entry, [], code=code_sha256())
        (path,) = self.outputs
        if (kept := finished(path, key)) is not None:
            return _kept(entry, kept)
        volume = read_volume(entry.path, series=entry.series, add_offset=entry.add_offset or 0)
        given = read_labelled_mask(entry.mask, volume)
        (typed,) = with_types([given], [entry.types])
        found = assess_read(given, typed, volume)
        record: dict[str, Any] = {
            "scan": scan_record(volume),
            "lesions": lesions_record(typed.labels_zyx, volume, typed.lesions),
            "rows": scan_rows(found, extent="mask file"),
            "versions": versions(),
            "notice": NOTICE,
            "key": key,
        }
        if (reference_zyx := _reference(entry, volume)) is not None:
            record["whole_scan"] = score_slices(
                typed.blood_zyx, reference_zyx, volume, range(len(reference_zyx))
            )
        return _written(entry, path, record, started, (*entry.inputs, *self.inputs))


def _written(
    entry: Entry, path: Path, record: dict[str, Any], started: float, inputs: Sequence[Path]
) -> Outcome:
    """A scan that is done, its record written; the seconds stand in the file, for a later run to tell."""
    seconds = time.perf_counter() - started
    write_whole(path, json_bytes(record | {"seconds": seconds}), inputs=inputs)
    return Outcome(entry, "done", record, seconds=seconds)


def _kept(entry: Entry, record: dict[str, Any]) -> Outcome:
    return Outcome(entry, "kept", record, seconds=record.pop("seconds", None))


@dataclass(frozen=True)
class Compare:
    """Run several models on one scan's boxes, and score them where it has a reference."""

    entry: Entry
    folder: Path
    models: tuple[str, ...]
    edge: bool = True
    """As in ``Segment``."""
    inputs: tuple[Path, ...] = ()
    """As of ``Segment``."""

    @property
    def outputs(self) -> list[Path]:
        """The one file that it writes."""
        return [self.folder / f"scores-{self.entry.number:04d}.json"]

    def __call__(self) -> Outcome:
        entry = self.entry
        boxes = _boxes(entry)
        if not boxes:
            raise InputError(
                f"Models are compared on boxes that a person drew; the record of {entry.path.name} has none; "
                "draw some, or leave the scan out."
            )
        predictors = [load_predictor(name) for name in self.models]
        edge = self.edge if entry.edge is None else entry.edge
        key = _key(entry, [mask_identity(one, edge=edge) for one in predictors])
        (path,) = self.outputs
        if (kept := finished(path, key)) is not None:
            return _kept(entry, kept)
        started = time.perf_counter()
        volume = read_volume(entry.path, series=entry.series, add_offset=entry.add_offset or 0)
        reference_zyx = _reference(entry, volume)
        results = [_compared(volume, boxes, one, reference_zyx, edge=edge) for one in predictors]
        record = {
            "scan": scan_record(volume),
            "boxes": boxes_record(boxes),
            "models": results,
            "versions": versions(),
            "notice": NOTICE,
            "key": key,
        }
        return _written(entry, path, record, started, (*entry.inputs, *self.inputs))


def prompted(
    volume: CTVolume, boxes: Mapping[int, Sequence[Box]], edge: bool = True
) -> Segmentation:
    """A scan's document with the boxes of one lesion, checked before any model is loaded; raises BoxError."""
    return prompted_document(volume, {(k, 1): list(one) for k, one in boxes.items()}, {}, edge)


def predict(
    volume: CTVolume,
    boxes: Mapping[int, Sequence[Box]],
    predictor: Predictor,
    *,
    edge: bool = True,
) -> tuple[Segmentation, float]:
    """(A model's masks for all boxes of a scan, the seconds that they took). Raises BoxError as Segmentation does.

    ``edge`` draws the edge at half height on them, where the model takes it.
    """
    marked = prompted(volume, boxes, edge)
    started = time.perf_counter()
    Case(volume, marked, predictor).segmented()
    return marked, time.perf_counter() - started


def add_masks(
    marked: Segmentation, volume: CTVolume, predictor: Predictor, slices: Iterable[int]
) -> None:
    """Answer the boxes of a document's first lesion on some slices, with the model's own refinement."""
    for k in slices:
        embedding = predictor.embed(volume.hu_zyx[k])
        found = predictor.predict(embedding, marked.boxes(k), second_look=predictor.second_look)
        marked.add_masks(k, {predictor.name: found.union})


def score_slices(
    mask_zyx: npt.NDArray[np.bool_],
    reference_zyx: npt.NDArray[np.bool_] | None,
    volume: CTVolume,
    slices: Sequence[int],
) -> dict[str, float | None]:
    """A mask's millilitres on some slices, and against the reference mask on the same ones where there is one.

    Keys: volume_ml; with a reference mask also truth_ml, difference_ml (mask less reference) and dice (None where both
    are empty).
    """
    on_slices = np.zeros((len(mask_zyx), 1, 1), dtype=bool)
    on_slices[slices] = True
    ml = volume_ml(mask_zyx & on_slices, volume)
    if reference_zyx is None:
        return {"volume_ml": ml}
    truth_ml = volume_ml(reference_zyx & on_slices, volume)
    overlap = dice(mask_zyx & on_slices, reference_zyx & on_slices)
    return {
        "volume_ml": ml,
        "truth_ml": truth_ml,
        "difference_ml": ml - truth_ml,
        "dice": None if np.isnan(overlap) else overlap,
    }


def _compared(
    volume: CTVolume,
    boxes: Mapping[int, Sequence[Box]],
    predictor: Predictor,
    reference_zyx: npt.NDArray[np.bool_] | None,
    *,
    edge: bool,
) -> dict[str, Any]:
    marked, seconds = predict(volume, boxes, predictor, edge=edge)
    mask_zyx, boxed = marked.mask_zyx(predictor.name), marked.marked_slices()
    return {
        "model": predictor.name,
        "title": predictor.title,
        "weights_sha256": dict(predictor.weights_sha256),
        "identity": mask_identity(predictor, edge=edge).record(),
        "seconds_a_slice": seconds / max(1, len(boxed)),
        "boxed_slices": score_slices(mask_zyx, reference_zyx, volume, boxed),
        "whole_scan": score_slices(mask_zyx, reference_zyx, volume, range(len(mask_zyx))),
    }


def _reference(entry: Entry, volume: CTVolume) -> npt.NDArray[np.bool_] | None:
    """The blood of an entry's reference mask; None where it has none."""
    return None if entry.truth is None else read_labelled_mask(entry.truth, volume).blood_zyx


def _boxes(entry: Entry) -> dict[int, list[Box]]:
    """An entry's boxes by slice, of all lesions together."""
    found: dict[int, list[Box]] = {}
    for (k, _), boxes in sorted(_asked(entry)[1].items()):
        found.setdefault(k, []).extend(boxes)
    return found


def _asked(entry: Entry) -> tuple[SessionRecord | None, Prompts]:
    """An entry's session where it has one, and its boxes by slice and lesion."""
    if entry.auto and (entry.boxes or entry.session or entry.types):
        raise InputError(
            "Of a scan that asks for auto the program itself says where the blood is; "
            f"{entry.path.name} also has boxes, a record or lesions; leave them out, or auto."
        )
    if entry.auto:
        return None, {}
    if (entry.session is None) != bool(entry.boxes):
        got = "both" if entry.session else "neither"
        raise InputError(
            f"A scan of many has boxes or a session record; {entry.path.name} has {got}; "
            "fill one of the two columns, or lay the record beside the scan."
        )
    if entry.session is None:
        return None, parse_prompts(entry.boxes)
    saved = load_session(entry.session)
    return saved, {where: list(boxes) for where, boxes in saved.prompts.items()}


def _key(entry: Entry, identities: Sequence[Identity], **settings: Any) -> str:
    """What a result came from: equal keys, equal results. Files of scans count by size and time, not by content."""
    masks = {"truth": entry.truth, "mask": entry.mask}
    files: dict[str, Any] = {
        "scan": [_stamp(path) for path in inputs_of(entry.path)],
        "session": None if entry.session is None else _stamp(entry.session),
        **{
            name: [_stamp(one) for one in (*inputs_of(path), lesions_path(path))]
            for name, path in masks.items()
            if path is not None
        },
    }
    told = {name: getattr(entry, name) for name in DECIDES}
    text = json.dumps([[one.sha256 for one in identities], files, told, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: Path) -> list[tuple[str, int, int]]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = ((file.name, file.stat()) for file in files if file.is_file())
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def record_path(folder: Path, entry: Entry) -> Path:
    """Where the record of a segmented scan is, below the folder of the results."""
    return folder / f"scan-{entry.number:04d}.json"


def finished(path: Path, key: str) -> dict[str, Any] | None:
    """The record of an earlier run, if it came from the same things."""
    try:
        record: dict[str, Any] = load_json(path)
        return record if json_field(record, "key", "text") == key else None
    except (OSError, RecordError):
        return None  # there is none, or it is not one of ours
