"""Many scans: a folder or a manifest in, a mask and a record a scan out, in this process or through Ray.

A manifest is a CSV file with a header and a row a scan (``COLUMNS``); its paths are relative to it. A folder is read
by its ``manifest.csv``, or else scan by scan, each with its record beside it: ``NAME.json`` for ``NAME.nii.gz``,
``NAME.zip`` or the folder ``NAME``, and ``NAME-truth.nii.gz`` where there is a reference.

What is finished is not done again, files appear whole or not at all, and a scan that cannot be done is reported and
passed over. Files that this writes have neutral names; the names in the manifest are repeated in ``results.csv``,
which is the user's own, and nowhere else.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.files import export
from ichseg.files.mask import read_labelled_mask
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.edge import step_of
from ichseg.measures.agreement import dice
from ichseg.measures.volume import volume_ml
from ichseg.methods.catalogue import load_predictor, mask_identity
from ichseg.methods.identity import Identity
from ichseg.replace_file import Inputs, check_not_an_input, inputs_of, output_key, write_whole
from ichseg.scan.volume import CTVolume, read_volume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor

Job = TypeVar("Job")
Result = TypeVar("Result")

#: What a manifest may say of a scan. ``scan`` and one of ``boxes`` and ``session`` are needed.
COLUMNS = ("scan", "boxes", "session", "truth", "out", "series", "add_offset")
MANIFEST_NAME = "manifest.csv"
RESULTS_NAME = "results.csv"
_BEYOND = "(beyond the header)"
#: Ray on this machine's own cores.
LOCAL = "local"
_SCAN_ENDINGS = (".nii.gz", ".nii", ".zip")


@dataclass(frozen=True)
class Entry:
    """One scan of a manifest."""

    number: int
    """From 1, in the manifest's order; what files and messages call the scan."""
    scan: str
    """As the manifest writes it."""
    path: Path
    boxes: str = ""
    """As ``parse_boxes`` reads them."""
    session: Path | None = None
    truth: Path | None = None
    out: str = ""
    """The mask's file name below the output folder; a neutral one where empty."""
    series: str | None = None
    add_offset: int = 0

    @property
    def inputs(self) -> list[Path]:
        """All files and folders that are read for this scan."""
        found = inputs_of(self.path)
        if self.session is not None:
            found.append(self.session)
        if self.truth is not None:
            found += [*inputs_of(self.truth), export.lesions_path(self.truth)]
        return found


@dataclass(frozen=True)
class Outcome:
    """What became of one scan. ``record`` is None, and ``error`` a sentence, where it was passed over."""

    entry: Entry
    state: Literal["done", "kept", "passed over"]
    record: Mapping[str, Any] | None = None
    error: str | None = None


# Which scans


def is_cohort(path: Path) -> bool:
    """Whether a path names many scans: a manifest, or a folder with one or with scans beside their records."""
    if path.suffix.lower() == ".csv" or (path / MANIFEST_NAME).is_file():
        return True
    return path.is_dir() and any(_record_of(scan).is_file() for scan in _scans_in(path))


def read_manifest(path: Path) -> list[Entry]:
    """The scans that a manifest, or a folder, names. Raises InputError where it is no manifest.

    What is wrong with one scan alone (a file that is not there, a box that cannot be read) is found when its
    turn comes, and costs that scan only.
    """
    if path.is_dir() and not (path / MANIFEST_NAME).is_file():
        entries = [_entry_beside(number, scan) for number, scan in enumerate(_scans_in(path), 1)]
        if not entries:
            raise InputError(
                f"A folder of many scans holds NIfTI files, zips or DICOM folders; {path.name} holds none; "
                "give another folder, or a manifest."
            )
        return entries
    path = path / MANIFEST_NAME if path.is_dir() else path
    text, between = _table(path)
    reader = csv.DictReader(text, restkey=_BEYOND, delimiter=between)
    try:
        rows = [row for row in reader if any(row.values())]  # spreadsheets save empty rows, too
    except csv.Error as error:
        raise _unreadable(path, f"{error}") from error
    named = {*(reader.fieldnames or ()), *(key for row in rows for key in row)}
    if "scan" not in named or not rows or named - set(COLUMNS):
        got = "no row" if named >= {"scan"} and not rows else ", ".join(sorted(map(str, named)))
        raise InputError(
            f"A manifest has a row a scan, under a header of scan and any of {', '.join(COLUMNS[1:])}; "
            f"{path.name} has {got or 'nothing'}; correct it (where commas part the cells, boxes stand in quotes)."
        )
    entries = [_entry(number, row, path.parent) for number, row in enumerate(rows, 1)]
    outs = [entry.out for entry in entries if entry.out]
    if twice := {out for out in outs if outs.count(out) > 1}:
        raise InputError(
            f"Each scan's mask has a file of its own; {path.name} gives {min(twice)} more than once; "
            "give another name, or leave the column out."
        )
    return entries


def _table(path: Path) -> tuple[io.StringIO, str]:
    """A manifest's text, and what stands between its cells: a comma, or a semicolon or tab as in most of Europe."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # as spreadsheets write it
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it has other bytes") from error
    except OSError as error:
        raise InputError(
            f"A manifest is a CSV file that can be read; {path.name} cannot ({error.strerror}); check its path."
        ) from error
    if "\0" in text:
        raise _unreadable(path, "it has NUL bytes")
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # a hint to spreadsheets
        return io.StringIO(rest, newline=""), first[4]
    # No column's name has one of these signs, so that the header tells.
    return io.StringIO(text, newline=""), next((sign for sign in ";\t" if sign in first), ",")


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"A manifest is CSV in UTF-8; {path.name} is not: {why}; "
        'in the spreadsheet, save it as "CSV UTF-8" (not "Unicode text", nor plain CSV).'
    )


def inputs_of_many(path: Path, entries: Sequence[Entry]) -> list[Path]:
    """All that a run over a manifest or a folder reads: the manifest, or a folder without one, and each scan's files.

    A folder that is read scan by scan takes no output: the next run would take it for one more scan.
    """
    named = path / MANIFEST_NAME if (path / MANIFEST_NAME).is_file() else path
    return [named, *(one for entry in entries for one in entry.inputs)]


def parse_boxes(text: str) -> dict[int, list[Box]]:
    """Read a manifest's boxes: ``SLICE:X0,Y0,X1,Y1``, several apart by spaces; slices from 0.

    >>> parse_boxes("12:120,80,180,140 13:118;82;181;139")[13][0].xyxy
    (118.0, 82.0, 181.0, 139.0)
    """
    boxes: dict[int, list[Box]] = {}
    for part in text.split():
        k, colon, box = part.partition(":")
        if not (colon and k.isdecimal()):
            raise InputError(
                f"A manifest's box is SLICE:X0,Y0,X1,Y1, the slice from 0; got '{part}'; "
                "give e.g. 12:120,80,180,140, several apart by spaces."
            )
        boxes.setdefault(int(k), []).append(Box.parse(box))
    return boxes


def _entry(number: int, row: Mapping[str, str | None], folder: Path) -> Entry:
    value = {name: (row.get(name) or "").strip() for name in COLUMNS}

    def place(name: str) -> Path:
        return _there(folder / value[name])

    try:
        add_offset = int(value["add_offset"] or 0)
    except ValueError as error:
        raise InputError(
            f"add_offset is a whole number of HU; row {number} of the manifest has "
            f"'{value['add_offset']}'; give e.g. -1024, or leave it empty."
        ) from error
    return Entry(
        number=number,
        scan=value["scan"],
        path=place("scan"),
        boxes=value["boxes"],
        session=place("session") if value["session"] else None,
        truth=place("truth") if value["truth"] else None,
        out=value["out"],
        series=value["series"] or None,
        add_offset=add_offset,
    )


def _there(path: Path) -> Path:
    """The file of a name with accents, which are one sign or two on disk and look alike in a table."""
    if path.exists():
        return path
    spelled = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((one for one in spelled if one.exists()), path)


def _entry_beside(number: int, scan: Path) -> Entry:
    truths = (scan.with_name(f"{_stem(scan)}-truth{ending}") for ending in (".nii.gz", ".nii"))
    record = _record_of(scan)
    return Entry(
        number=number,
        scan=scan.name,
        path=scan,
        session=record if record.is_file() else None,
        truth=next((path for path in truths if path.is_file()), None),
    )


def _scans_in(folder: Path) -> list[Path]:
    """What in a folder can be a scan: NIfTI files, zips and folders, without the references."""
    return [
        path
        for path in sorted(folder.iterdir())
        if (path.is_dir() or path.name.lower().endswith(_SCAN_ENDINGS))
        and not path.name.startswith(".")
        and not _stem(path).endswith("-truth")
    ]


def _stem(path: Path) -> str:
    ending = next((end for end in _SCAN_ENDINGS if path.name.lower().endswith(end)), "")
    return path.name[: len(path.name) - len(ending)]


def _record_of(scan: Path) -> Path:
    return scan.with_name(f"{_stem(scan)}.json")


# One scan


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
        return [self.record_path, *(export.mask_outputs(self.folder / out) if out else ())]

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
        mask_name = entry.out or f"{path.stem}-{export.mask_name(volume)}"
        mask_path = self.folder / mask_name
        for output in (path, *export.mask_outputs(mask_path)):
            check_not_an_input(output, inputs)
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        export.check_mask_path(mask_path, volume, inputs)
        truth_zyx = _truth(entry, volume)
        if saved:
            marked = saved.run(predictor, volume)
        else:
            marked, _ = predict(volume, boxes, predictor, edge=self.edge)
        mask_zyx = marked.mask_zyx(predictor.name)
        path.unlink(missing_ok=True)  # a record never stands beside another mask than its own
        export.save_marked(
            mask_path, marked, predictor.name, volume, made=identity.short, inputs=inputs
        )
        record = export.segmentation_record(
            volume,
            marked,
            model=predictor.name,
            weights_sha256=predictor.weights_sha256,
            second_look=look,
            identity=identity,
        )
        record |= {"key": key, "mask": mask_name}
        if saved:
            record["same_mask"] = saved.is_same(marked, predictor.name)
            record["session_notes"] = changed
        if truth_zyx is not None:
            record["whole_scan"] = score_slices(mask_zyx, truth_zyx, volume, range(len(mask_zyx)))
        write_whole(path, export.json_bytes(record), inputs=inputs)
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
            "scan": export.scan_record(volume),
            "boxes": export.boxes_record(boxes),
            "models": results,
            "versions": export.versions(),
            "notice": export.NOTICE,
            "key": key,
        }
        write_whole(path, export.json_bytes(record), inputs=(*entry.inputs, *self.inputs))
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
    for k in marked.marked_slices():
        embedding = predictor.embed(volume.hu_zyx[k])
        found = predictor.predict(embedding, marked.boxes(k), second_look=predictor.second_look)
        marked.add_masks(k, {predictor.name: found.union})
    return marked, time.perf_counter() - started


def score_slices(
    mask_zyx: npt.NDArray[np.bool_],
    truth_zyx: npt.NDArray[np.bool_] | None,
    volume: CTVolume,
    slices: Sequence[int],
) -> dict[str, float | None]:
    """A mask's millilitres on some slices, and against the truth on the same ones where there is one.

    Keys: volume_ml; with a truth also truth_ml, difference_ml (mask less truth) and dice (None where both are empty).
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


def _prompts(entry: Entry) -> tuple[export.Session | None, dict[int, list[Box]]]:
    """An entry's session where it has one, and its boxes by slice."""
    if (entry.session is None) != bool(entry.boxes):
        got = "both" if entry.session else "neither"
        raise InputError(
            f"A scan of many has boxes or a session record; {entry.path.name} has {got}; "
            "fill one of the two columns, or lay the record beside the scan."
        )
    if entry.session is None:
        return None, parse_boxes(entry.boxes)
    saved = export.load_session(entry.session)
    return saved, {k: list(boxes) for k, boxes in saved.boxes.items()}


def _key(entry: Entry, identities: Sequence[Identity]) -> str:
    """What a result came from: equal keys, equal results. Files of scans count by size and time, not by content."""
    files = {
        "scan": [_stamp(path) for path in inputs_of(entry.path)],
        "truth": None
        if entry.truth is None
        else [_stamp(path) for path in (*inputs_of(entry.truth), export.lesions_path(entry.truth))],
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
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if record["key"] == key else None
    except (OSError, KeyError, TypeError, ValueError):
        return None  # there is none, or it is not one of ours


# Many scans


def run(
    jobs: Sequence[Segment | Compare],
    *,
    inputs: Iterable[Path] = (),
    ray: str | None = None,
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Do all jobs and return what became of each, in their order; a scan that cannot be done is passed over.

    Args:
        jobs: each writes its own files; their folder is made here. One that would write over what any of them reads,
            or over another's file, is passed over before any work is done.
        inputs: what the run reads beside the jobs' own scans, such as their manifest.
        ray: None for this process, ``LOCAL`` for Ray on its cores, else the address of a Ray cluster.
        on_done: called with each outcome as it comes, in any order.

    """
    read = Inputs([*inputs, *(path for job in jobs for path in job.entry.inputs)])
    refused = _refused(jobs, read)
    for folder in {job.folder for job in jobs}:
        _make(folder)
    here = {job.folder: _inside(job.folder, read) for job in jobs}
    todo = [i for i in range(len(jobs)) if i not in refused]
    outcomes: dict[int, Outcome] = {}

    def done(i: int, found: Outcome | Failure) -> None:
        if isinstance(found, Failure):
            found = Outcome(jobs[i].entry, "passed over", error=found.sentence)
        outcomes[i] = found
        if on_done is not None:
            on_done(found)

    for i, failure in refused.items():
        done(i, failure)
    work = [replace(jobs[i], inputs=here[jobs[i].folder]) for i in todo]
    for number, found in each(_do, work, ray=ray):
        done(todo[number], found)
    return [outcomes[i] for i in range(len(jobs))]


def _refused(jobs: Sequence[Segment | Compare], read: Inputs) -> dict[int, Failure]:
    """Which jobs would write where they must not: onto what any of them reads, or onto an earlier one's file."""
    found = dict[int, Failure]()
    taken = dict[str, int]()
    for i, job in enumerate(jobs):
        try:
            for output in job.outputs:
                check_not_an_input(output, read)
                if (first := taken.setdefault(output_key(output), i)) != i:
                    raise InputError(
                        f"Each scan's files are its own; {output.name} is written for scans "
                        f"{jobs[first].entry.number} and {job.entry.number}; give another name as out."
                    )
        except InputError as error:
            found[i] = Failure(str(error))
    return found


def _inside(folder: Path, read: Inputs) -> tuple[Path, ...]:
    """What is read from below a folder."""
    place = folder.resolve()
    return tuple(path for path in read if path.resolve().is_relative_to(place))


@dataclass(frozen=True)
class Failure:
    """Why a job could not be done, in a sentence."""

    sentence: str


def each(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, ray: str | None = None
) -> Iterator[tuple[int, Result | Failure]]:
    """(A job's place, its result or Failure) as they come: ``work`` on every job, here or through Ray.

    Through Ray jobs run side by side, so they must not depend on each other, and ``work``, jobs and results
    must pickle. A cluster's machines need this project installed and the same files under the same paths.

    Raises:
        InputError: Ray is asked for and is not installed, or no cluster answers at the address.

    """
    if ray is None:
        for i, job in enumerate(jobs):
            yield i, _attempt(work, job)
        return
    with _ray(ray) as engine:
        remote = engine.remote(max_retries=0)(_attempt)
        waiting = {remote.remote(work, job): i for i, job in enumerate(jobs)}
        while waiting:
            (ready,), _ = engine.wait(list(waiting), num_returns=1)
            i = waiting.pop(ready)
            try:
                yield i, engine.get(ready)
            except engine.exceptions.RayError as error:  # the worker died, e.g. out of memory
                yield i, Failure(_internal(error))


def _attempt(work: Callable[[Job], Result], job: Job) -> Result | Failure:
    try:
        return work(job)
    except InputError as error:
        return Failure(str(error))
    except Exception as error:  # one scan's surprise must not cost the others their night
        return Failure(_internal(error))


def _internal(error: Exception) -> str:
    return (
        f"A scan is read and segmented without an internal error; this one ended in {type(error).__name__} "
        f"({' '.join(str(error).split())[:200]}); run it alone, and report it."
    )


def _do(job: Segment | Compare) -> Outcome:
    return job()


@contextmanager
def _ray(address: str) -> Iterator[Any]:
    """The ray module, connected; what is started here is stopped again. Nothing of Ray's is sent or logged here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "Running through Ray needs the package ray, which is not installed here; "
            "pip install -r requirements-ray.txt, or leave the option out."
        ) from error
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,  # what a worker prints could name a scan
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"A Ray cluster answers at its address; '{address}' does not ({type(error).__name__}); "
            "start it with ray start --head, or leave the address out for this machine's cores."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The results of many scans go into a folder; {folder.name} cannot be made "
            f"({error.strerror or error}); give another --out."
        ) from error


# What came of it


#: Of results.csv; empty where there is nothing to say.
_RESULT_COLUMNS = (
    *("number", "scan", "state", "model", "volume_ml", "truth_ml", "difference_ml", "dice"),
    *("boxed_dice", "seconds_a_slice", "mask", "error", "scan_sha256", "warnings", "notice"),
)


def results_csv(outcomes: Sequence[Outcome]) -> bytes:
    """A row a scan, and a model where several were compared, as CSV in UTF-8, with the names as the user gave them.

    Columns: number, scan, state, model, volume_ml, truth_ml, difference_ml, dice (of the whole scan), boxed_dice (of
    the slices with a box), seconds_a_slice, mask, error, scan_sha256, warnings (what makes the millilitres doubtful),
    notice; empty where there is nothing to say.
    """
    rows = (row for outcome in outcomes for row in result_rows(outcome))
    return export.csv_bytes(_RESULT_COLUMNS, ({**row, "notice": export.NOTICE} for row in rows))


def result_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """An outcome as flat rows, as in ``results_csv``: one, or one a compared model."""
    entry, record = outcome.entry, outcome.record
    base = {"number": entry.number, "scan": entry.scan, "state": outcome.state}
    if record is None:
        return [{**base, "error": outcome.error}]
    base["scan_sha256"] = record["scan"]["sha256"]
    base["warnings"] = " ".join(record["scan"].get("warnings", ()))
    if "models" not in record:
        scores = record.get("whole_scan", {"volume_ml": record["volume_ml"]})
        return [{**base, "model": record["model"], **scores, "mask": record["mask"]}]
    return [
        {
            **base,
            "model": one["model"],
            **one["whole_scan"],
            "boxed_dice": one["boxed_slices"].get("dice"),
            "seconds_a_slice": one["seconds_a_slice"],
        }
        for one in record["models"]
    ]


def averages(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For each compared model: over scans with a reference, mean and sample sd of Dice and of the |difference| in mL.

    Keys: model, scans, dice_mean, dice_sd, boxed_dice_mean, boxed_dice_sd, difference_ml_mean, difference_ml_sd,
    seconds_a_slice; None where there is no value (a spread needs two). Scans whose mask and reference are both empty
    have no Dice and are left out of its mean.
    """
    rows = [row for outcome in outcomes for row in result_rows(outcome) if "model" in row]
    out = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        found: dict[str, Any] = {
            "model": model,
            "scans": sum(row.get("truth_ml") is not None for row in mine),
        }
        for name in ("dice", "boxed_dice", "difference_ml"):
            values = [abs(row[name]) for row in mine if row.get(name) is not None]
            found[f"{name}_mean"] = float(np.mean(values)) if values else None
            found[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        found["seconds_a_slice"] = float(np.mean([row["seconds_a_slice"] for row in mine]))
        out.append(found)
    return out
