"""One scan of many: segment it, or compare models on it, and keep what was finished."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE
from ichseg.cohort.manifest import COLUMNS, Entry, parse_boxes
from ichseg.errors import InputError
from ichseg.files import write
from ichseg.files.mask import read_labelled_mask
from ichseg.files.names import lesions_path, mask_name
from ichseg.files.records import json_bytes, scan_record, versions
from ichseg.files.session import SessionRecord, load_session, segmentation_record
from ichseg.json_fields import RecordError, json_field, load_json
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.record import boxes_record
from ichseg.measures.agreement import dice
from ichseg.measures.volume import volume_ml
from ichseg.methods.catalogue import load_predictor, mask_identity
from ichseg.methods.edge_step import step_of
from ichseg.methods.identity import Identity
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


@dataclass(frozen=True)
class Segment:
    """Segment one scan into a folder: its mask, and the record from which the same mask is made again."""

    entry: Entry
    folder: Path
    model: str | None = None
    """For a scan with boxes; a record brings its own. None is the default model."""
    edge: bool = True
    """For a scan with boxes, whether to draw the edge at half height (``marks.edge``); a record says it itself."""
    inputs: tuple[Path, ...] = ()
    """What else the run reads from where this writes (``run`` says it)."""

    @property
    def record_path(self) -> Path:
        """Where its record goes, last of all."""
        return self.folder / f"scan-{self.entry.number:04d}.json"

    @property
    def outputs(self) -> list[Path]:
        """The files that it writes, as far as they are known before the scan is."""
        out = self.entry.out
        return [self.record_path, *(write.outputs(self.folder / out) if out else ())]

    def __call__(self) -> Outcome:
        entry = self.entry
        saved, boxes = _prompts(entry)
        predictor = load_predictor(saved.model if saved else self.model)
        look = saved.second_look if saved else predictor.second_look
        edge = saved.edge if saved else self.edge
        identity = mask_identity(predictor, refinement=look, edge=edge)
        key = _key(entry, [identity])
        path, inputs = self.record_path, (*entry.inputs, *self.inputs)
        kept = _finished(path, key)
        if kept is not None and (self.folder / kept["mask"]).is_file():
            return Outcome(entry, "kept", kept)
        volume = read_volume(entry.path, series=entry.series, add_offset=entry.add_offset)
        changed: list[str] = []
        if saved:
            saved.check_scan(volume)
            changed = saved.check_model(predictor)
        called = entry.out or f"{path.stem}-{mask_name(volume)}"
        mask_path = self.folder / called
        for output in (path, *write.outputs(mask_path)):
            check_not_an_input(output, inputs)
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        write.check_path(mask_path, volume, inputs, "mask")
        truth_zyx = _truth(entry, volume)
        if saved:
            marked = saved.run(predictor, volume)
        else:
            marked, _ = predict(volume, boxes, predictor, edge=self.edge)
        mask_zyx = marked.mask_zyx(predictor.name)
        path.unlink(missing_ok=True)  # a record never stands beside another mask than its own
        write.save_marked(
            mask_path, marked, predictor.name, volume, made=identity.short, inputs=inputs
        )
        record = segmentation_record(
            volume,
            marked,
            model=predictor.name,
            weights_sha256=predictor.weights_sha256,
            second_look=look,
            identity=identity,
        )
        record |= {"key": key, "mask": called}
        if saved:
            record["same_mask"] = saved.is_same(marked, predictor.name)
            record["session_notes"] = changed
        if truth_zyx is not None:
            record["whole_scan"] = score_slices(mask_zyx, truth_zyx, volume, range(len(mask_zyx)))
        write_whole(path, json_bytes(record), inputs=inputs)
        return Outcome(entry, "done", record)


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
        _, boxes = _prompts(entry)
        if not boxes:
            raise InputError(
                f"Models are compared on boxes that a person drew; the record of {entry.path.name} has none; "
                "draw some, or leave the scan out."
            )
        predictors = [load_predictor(name) for name in self.models]
        key = _key(entry, [mask_identity(one, edge=self.edge) for one in predictors])
        (path,) = self.outputs
        if (kept := _finished(path, key)) is not None:
            return Outcome(entry, "kept", kept)
        volume = read_volume(entry.path, series=entry.series, add_offset=entry.add_offset)
        truth_zyx = _truth(entry, volume)
        results = [_compared(volume, boxes, one, truth_zyx, edge=self.edge) for one in predictors]
        record = {
            "scan": scan_record(volume),
            "boxes": boxes_record(boxes),
            "models": results,
            "versions": versions(),
            "notice": NOTICE,
            "key": key,
        }
        write_whole(path, json_bytes(record), inputs=(*entry.inputs, *self.inputs))
        return Outcome(entry, "done", record)


def prompted(
    volume: CTVolume, boxes: Mapping[int, Sequence[Box]], edge: bool = True
) -> Segmentation:
    """A scan's document with its boxes, checked before any model is loaded. Raises BoxError as Segmentation does."""
    marked = Segmentation(volume.shape_zyx, edge_step=step_of(volume), edge=edge)
    for k, on_slice in boxes.items():
        marked.set_slice(k, on_slice, {})
    return marked


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
    add_masks(marked, volume, predictor, marked.marked_slices())
    return marked, time.perf_counter() - started


def add_masks(
    marked: Segmentation, volume: CTVolume, predictor: Predictor, slices: Iterable[int]
) -> None:
    """Answer a document's boxes on some slices, with the model's own refinement."""
    for k in slices:
        embedding = predictor.embed(volume.hu_zyx[k])
        found = predictor.predict(embedding, marked.boxes(k), second_look=predictor.second_look)
        marked.add_masks(k, {predictor.name: found.union})


def score_slices(
    mask_zyx: npt.NDArray[np.bool_],
    truth_zyx: npt.NDArray[np.bool_] | None,
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
    if truth_zyx is None:
        return {"volume_ml": ml}
    truth_ml = volume_ml(truth_zyx & on_slices, volume)
    overlap = dice(mask_zyx & on_slices, truth_zyx & on_slices)
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
    truth_zyx: npt.NDArray[np.bool_] | None,
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
        "boxed_slices": score_slices(mask_zyx, truth_zyx, volume, boxed),
        "whole_scan": score_slices(mask_zyx, truth_zyx, volume, range(len(mask_zyx))),
    }


def _truth(entry: Entry, volume: CTVolume) -> npt.NDArray[np.bool_] | None:
    """The blood of an entry's reference mask; None where it has none."""
    return None if entry.truth is None else read_labelled_mask(entry.truth, volume).blood_zyx


def _prompts(entry: Entry) -> tuple[SessionRecord | None, dict[int, list[Box]]]:
    """An entry's session where it has one, and its boxes by slice."""
    if (entry.session is None) != bool(entry.boxes):
        got = "both" if entry.session else "neither"
        raise InputError(
            f"A scan of many has boxes or a session record; {entry.path.name} has {got}; "
            "fill one of the two columns, or lay the record beside the scan."
        )
    if entry.session is None:
        return None, parse_boxes(entry.boxes)
    saved = load_session(entry.session)
    return saved, {k: list(boxes) for k, boxes in saved.boxes.items()}


def _key(entry: Entry, identities: Sequence[Identity]) -> str:
    """What a result came from: equal keys, equal results. Files of scans count by size and time, not by content."""
    files = {
        "scan": [_stamp(path) for path in inputs_of(entry.path)],
        "truth": None
        if entry.truth is None
        else [_stamp(path) for path in (*inputs_of(entry.truth), lesions_path(entry.truth))],
        "session": None if entry.session is None else _stamp(entry.session),
    }
    told = {
        name: value
        for name, value in asdict(entry).items()
        if name in COLUMNS and name not in files
    }
    text = json.dumps([[one.sha256 for one in identities], files, told], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: Path) -> list[tuple[str, int, int]]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = ((file.name, file.stat()) for file in files if file.is_file())
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _finished(path: Path, key: str) -> dict[str, Any] | None:
    """The record of an earlier run, if it came from the same things."""
    try:
        record: dict[str, Any] = load_json(path)
        return record if json_field(record, "key", "text") == key else None
    except (OSError, RecordError):
        return None  # there is none, or it is not one of ours
