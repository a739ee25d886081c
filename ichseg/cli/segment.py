"""``ichseg segment``: from boxes to masks and millilitres."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from ichseg import cohort
from ichseg.cli.inputs import boxes_by_slice, input_files, read_scan
from ichseg.cli.many import folder_for_many, refuse_for_many, run_many
from ichseg.cli.options import (
    AddOffset,
    AsJson,
    Backend,
    Boxes,
    EdgeOption,
    Identified,
    Parallel,
    RayAddress,
    RegularGrid,
    Scan,
    ScanLabel,
    Series,
    Slices,
)
from ichseg.cli.outputs import check_folder, check_out, is_evidence, write_copies, write_evidence
from ichseg.cli.show import print_json, print_people, volume_table, with_bar
from ichseg.errors import InputError
from ichseg.files import write
from ichseg.files.names import with_label
from ichseg.files.regular_grid import aslant_note, regular_grid_files
from ichseg.files.session import SessionRecord, load_session, same_mask_note, segmentation_record
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import TYPES
from ichseg.measures import spread
from ichseg.measures.assessment import Assessment, assess_marked
from ichseg.measures.spread import VolumeRange, volume_range
from ichseg.measures.volume import volume_ml
from ichseg.methods.backends import use_backend
from ichseg.methods.catalogue import CATALOGUE, edge_setting, load_predictor, mask_identity
from ichseg.methods.edge_step import step_of
from ichseg.methods.follow_rule import Stop
from ichseg.methods.model_error import model_error
from ichseg.methods.propagation import propagate_lesions
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.identity import Identity
    from ichseg.methods.predictor import Predictor, SliceEmbedding


def segment(
    scan: Scan,
    slices: Slices = None,
    boxes: Boxes = None,
    propagate: Annotated[
        bool,
        typer.Option(
            "--propagate",
            metavar="",
            help="Go on from the boxes to the whole hematoma, slice by slice, until it ends.",
        ),
    ] = False,
    session: Annotated[
        Path | None,
        typer.Option(help="Run a saved record again, in place of --slice, --box and --model."),
    ] = None,
    edge: EdgeOption = None,
    model: Annotated[
        str | None, typer.Option(help=f"{', '.join(CATALOGUE)}, or an adapter's folder or hub id.")
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the mask: .nii.gz on the scan's grid, or .zip with a PNG for each slice; or the evidence: "
            f"{', '.join(write.endings('measures'))}. Repeatable. For many scans: the folder of their masks and "
            "records."
        ),
    ] = None,
    regular_grid: RegularGrid = None,
    identified: Identified = False,
    scan_label: ScanLabel = "",
    series: Series = None,
    add_offset: AddOffset = 0,
    parallel: Parallel = False,
    ray_address: RayAddress = None,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Segment what is in the boxes, and give its volume.

    SCAN may also be many: a manifest (CSV: scan, boxes or session, and truth, out, series, add_offset), or a
    folder of scans each with its record NAME.json. What is finished in --out is not done again.

    JSON keys: schema_version, scan (as of info), lesions (id, name, type, colour, locked, visible,
    volume_ml), boxes (slice, lesion, box_xyxy), propagated (lesion, parameters, boxes), edits (slice,
    lesion, origin, runs), model, weights_sha256, second_look, edge, identity, mask_sha256, labels_sha256, slices
    (slice, area_mm2, height_mm, volume_ml), volume_ml of the blood, versions, notice; with --session
    also same_mask and session_notes. The object is itself a record for --session. For many:
    scans (a row of results.csv each), passed_over, versions, notice.
    """
    use_backend(backend)
    if cohort.is_cohort(scan):
        refuse_for_many(
            {
                **{"--slice": slices, "--box": boxes, "--session": session},
                **{"--series": series, "--add-offset": add_offset, "--propagate": propagate},
                **{"--identified": identified, "--scan-label": scan_label},
                "--regular-grid": regular_grid,
            }
        )
        folder = folder_for_many(out[0] if out and len(out) == 1 else None)
        jobs = [
            cohort.Segment(entry, folder, model, edge=edge is not False)
            for entry in cohort.read_manifest(scan)
        ]
        run_many(jobs, scan, parallel, ray_address, as_json)
        return
    saved = None
    if session is not None:
        if slices or boxes or model or propagate or edge is not None:
            raise InputError(
                "A session brings its own boxes, model and edge; got --session with --slice, --box, --model, "
                "--propagate, --edge or --no-edge; leave them out."
            )
        saved = load_session(session)
    prompts = saved.boxes if saved else boxes_by_slice(slices, boxes)
    volume = with_label(read_scan(scan, series, add_offset), scan_label)
    if saved:
        saved.check_scan(volume)
    inputs = input_files(scan, session)
    check_out(out or (), volume, inputs)
    check_folder(regular_grid, inputs)
    marked = cohort.prompted(volume, prompts, edge is not False)
    predictor = load_predictor(saved.model if saved else model)
    case = _Case(volume, prompts, predictor, propagate)
    done = case.run_again(saved) if saved else case.segmented(marked)
    record = done.record()
    notes = done.notes(record)
    for path in out or ():
        if not is_evidence(path):
            notes += _save_mask(path, done, inputs)
    if out and any(map(is_evidence, out)):
        found = done.assessment()
        if given := found.ranges.get(None):
            notes.append(f"{given.low_ml:.1f} to {given.high_ml:.1f} mL {given.covers}.")
        notes += write_evidence(out, found, scan if identified else None, inputs)
    if regular_grid:
        files, note = regular_grid_files(
            volume,
            done.marked.labels_zyx(predictor.name),
            done.marked.named_lesions,
            method=predictor.name,
            made=done.identity.short,
        )
        notes += write_copies(regular_grid, files, note, inputs)
    if as_json:
        print_json(record)
        return
    mask_zyx = done.marked.mask_zyx(predictor.name)
    print_people(volume_table(mask_zyx, volume, predictor.title), notes)


@dataclass(frozen=True)
class _Case:
    """One scan, its boxes, and the model that answers them."""

    volume: CTVolume
    prompts: Mapping[int, Sequence[Box]]
    predictor: Predictor
    propagate: bool

    @cached_property
    def embed(self) -> Callable[[int], SliceEmbedding]:
        """The embedding of a slice, made once."""
        return cache(lambda k: self.predictor.embed(self.volume.hu_zyx[k]))

    def segmented(self, marked: Segmentation) -> _Done:
        """What the model finds in the boxes of a document, or from them on."""
        if self.propagate:
            found, stops = self._propagated(marked.edge)
            return _Done(self, found, refinement=False, stops=tuple(stops))  # as it was done
        cohort.add_masks(
            marked,
            self.volume,
            self.predictor,
            with_bar(marked.marked_slices(), self.predictor.title),
        )
        return _Done(self, marked, refinement=self.predictor.second_look)

    def run_again(self, saved: SessionRecord) -> _Done:
        """A saved record's masks, made once more."""
        changed = saved.check_model(self.predictor)
        with Console(stderr=True).status(self.predictor.title):
            marked = saved.run(self.predictor, self.volume)
        return _Done(
            self,
            marked,
            refinement=saved.second_look,
            changed=tuple(changed),
            same_mask=saved.is_same(marked, self.predictor.name),
        )

    def _propagated(self, edge: bool) -> tuple[Segmentation, list[Stop]]:
        """The whole hematoma from its prompts, with progress on stderr, and why it ended."""
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(self.predictor.title, total=1.0)
            done = propagate_lesions(
                self.predictor,
                self.volume,
                {1: self.prompts},
                embed=self.embed,
                progress=lambda share: progress.update(task, completed=share),
            )
        step = step_of(self.volume)
        return done.segmentation(self.predictor.name, edge_step=step, edge=edge), done.stops


@dataclass(frozen=True)
class _Done:
    """A segmented case: its document, and how it was made."""

    case: _Case
    marked: Segmentation
    refinement: bool | None
    stops: tuple[Stop, ...] = ()
    changed: tuple[str, ...] = ()
    """Of a record run again: what is not as it was."""
    same_mask: bool | None = None
    """Of a record run again: whether the mask is the one it tells of."""

    @cached_property
    def identity(self) -> Identity:
        """All that decided the mask, besides the scan and its boxes."""
        return mask_identity(self.case.predictor, refinement=self.refinement, edge=self.marked.edge)

    def record(self) -> dict[str, Any]:
        """The JSON object; itself a record for --session."""
        predictor = self.case.predictor
        record = segmentation_record(
            self.case.volume,
            self.marked,
            model=predictor.name,
            weights_sha256=predictor.weights_sha256,
            second_look=self.refinement,
            identity=self.identity,
        )
        if self.same_mask is not None:
            record["same_mask"] = self.same_mask
            record["session_notes"] = list(self.changed)
        return record

    def notes(self, record: Mapping[str, Any]) -> list[str]:
        """What people are told beside the volume."""
        name = self.case.predictor.name
        notes = list(self.case.volume.remarks)
        if self.marked.named_lesions:
            notes += _lesion_notes(record["lesions"])
        notes += [
            f"Propagation {stop.sentence} (--slice {stop.slice_index})." for stop in self.stops
        ]
        if own := model_error(name):
            notes.append(f"On patients that it never saw, its volumes were off by {own.figure}.")
        if edge_setting(name, self.marked.edge):
            notes.append(
                "Where tissue lies around the blood, its edge was moved to half height; --no-edge leaves it."
            )
        if self.same_mask is not None:
            changed = list(self.changed)
            notes += [same_mask_note(self.same_mask, changed), *changed]
        return notes

    def assessment(self) -> Assessment:
        """All measures, with the range of volumes where it is known.

        Of a record run again it is not known without its propagations and corrections done again.
        """
        predictor = self.case.predictor
        ranges: dict[int | None, VolumeRange] = {}
        if self.same_mask is None:
            with Console(stderr=True).status("Drawing the boxes anew, for the range"):
                found = self._range()
            ranges = dict.fromkeys((None, *(one.id for one in self.marked.lesions)), found)
        return assess_marked(
            self.marked,
            self.case.volume,
            model=predictor.name,
            model_title=predictor.title,
            weights_sha256=predictor.weights_sha256,
            second_look=self.refinement,
            identity=self.identity,
            ranges=ranges,
        )

    def _range(self) -> VolumeRange:
        """The volume from boxes, and of a propagation from slices, that other hands might have chosen."""
        case, marked = self.case, self.marked
        mask_zyx = marked.mask_zyx(case.predictor.name)
        name = case.predictor.name
        edge = partial(step_of(case.volume), name) if edge_setting(name, marked.edge) else None
        if case.propagate:
            return spread.propagated_range(
                case.predictor, case.volume, mask_zyx, case.prompts, edge=edge, embed=case.embed
            )
        found = volume_range(
            case.predictor, case.volume, case.prompts, edge=edge, embedding=case.embed
        )
        # The draws are the model's instant answers, before a refinement.
        refined = case.predictor.second_look
        return found.carried_to(volume_ml(mask_zyx, case.volume)) if refined else found


def _save_mask(path: Path, done: _Done, inputs: Sequence[Path]) -> list[str]:
    """Write the mask, and say so."""
    case = done.case
    write.save_marked(
        path, done.marked, case.predictor.name, case.volume, made=done.identity.short, inputs=inputs
    )
    notes = [f"Mask written to {path}."]
    if path.suffix.lower() != ".zip" and (aslant := aslant_note(case.volume)):
        notes.append(aslant)
    return notes


def _lesion_notes(lesions: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each lesion of a record, where there is more to say than the total."""
    return [
        f"{lesion['id']}. {lesion['name']} ({TYPES[lesion['type']].title}): {lesion['volume_ml']:.2f} mL"
        for lesion in lesions
    ]
