"""The record of a session: one method's masks of a scan, and all that makes them again.

What of it is marks alone is ``marks.record``'s. Nothing in it carries a patient's name: a scan is known by the
SHA-256 of its voxels and a label that a person typed. It states the notice and the scan's warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE
from ichseg.errors import InputError, check_cancelled
from ichseg.json_fields import RecordError, json_field, load_json, of_kind
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.marks.reading import Part
from ichseg.marks.state import Origin
from ichseg.measures.volume import volume_ml
from ichseg.methods.automatic import Automatic
from ichseg.methods.catalogue import mask_identity
from ichseg.methods.edge_step import step_of
from ichseg.methods.identity import Identity
from ichseg.methods.rule_record import parameters_of
from ichseg.scan.volume import CTVolume, content_sha256

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding
from ichseg.files.records import lesions_record, scan_record, table_record, versions
from ichseg.marks.record import Edit, boxes_record, marks_record, read_marks, second_look_in

#: Of the session record; from 3 on it has the identity of what made its masks, from 4 on masks of a thin series before
#: the edge. A reader refuses a later one.
SCHEMA_VERSION = 4


@dataclass(frozen=True)
class SessionRecord:
    """The record of one model's mask on one scan: enough to make the same mask again.

    ``prompts`` maps (slice from 0, lesion) to the boxes that a person drew there, ``propagated`` to those that a
    propagation asked, ``parameters`` a lesion to what that went by; ``edits`` are masks that go over what the boxes
    give. ``weights_sha256`` maps a weight file to its hash; ``mask_sha256`` is ``content_sha256`` of the bool mask
    [z, y, x] of the blood, ``labels_sha256`` of the uint8 lesion numbers, which schema 1 did not have. ``identity`` is
    that of what made the masks; records before schema 3 do not say it. ``edge``: whether the edge at half height was
    on; it was off in records that do not say.
    """

    scan_sha256: str
    shape_zyx: tuple[int, int, int]
    prompts: Mapping[tuple[int, int], tuple[Box, ...]]
    model: str
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    second_look: bool | None = None
    mask_sha256: str | None = None
    labels_sha256: str | None = None
    lesions: tuple[Lesion, ...] = (Lesion(1),)
    propagated: Mapping[tuple[int, int], tuple[Box, ...]] = field(default_factory=dict)
    parameters: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    identity: Identity | None = None
    edge: bool = False
    automatic: Automatic | None = None
    """Of boxes that the program itself proposed and took; None where a person drew them."""

    @property
    def boxes(self) -> dict[int, tuple[Box, ...]]:
        """The boxes that a person drew, of all lesions, by slice."""
        found: dict[int, tuple[Box, ...]] = {}
        for (k, _), boxes in sorted(self.prompts.items()):
            found[k] = (*found.get(k, ()), *boxes)
        return found

    def run(
        self,
        predictor: Predictor,
        volume: CTVolume,
        *,
        embed: Callable[[int], SliceEmbedding] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Segmentation:
        """Make the mask again: the model answers every box, drawn or propagated; edits are laid over as they are.

        Args:
            predictor: of the record's model and weights; ``check_model`` first.
            volume: the scan; ``check_scan`` first.
            embed: slice index to its embedding by this predictor, for a caller that keeps them.
            progress: called with the share that is done, 0 to 1.

        Returns:
            The segmentation with the predictor's masks, and no history.

        """
        shape_yx = self.shape_zyx[1:]
        edited = {(edit.k, edit.lesion) for edit in self.edits}
        todo = sorted((self.prompts.keys() | self.propagated.keys()) - edited)
        embedding, at, parts = None, -1, []
        for number, (k, lesion) in enumerate(todo):
            check_cancelled()
            if embedding is None or at != k:
                embedding, at = embed(k) if embed else predictor.embed(volume.hu_zyx[k]), k
            drawn = (k, lesion) in self.prompts
            origin: Origin = "box" if drawn else "propagated"
            boxes = (self.prompts if drawn else self.propagated)[k, lesion]
            given = {} if drawn else self.parameters.get(lesion, {})
            look = given.get("second_look", self.second_look)
            found = predictor.predict(embedding, boxes, second_look=look)
            parts.append(Part(k, lesion, origin, found.union, boxes, from_boxes=True))
            if progress is not None:
                progress((number + 1) / len(todo))
        for edit in self.edits:
            boxes = self.prompts.get((edit.k, edit.lesion), ()) if edit.origin == "box" else ()
            mask_yx = edit.mask_yx(shape_yx)
            answer_yx = mask_yx if edit.is_answer else None
            parts.append(
                Part(edit.k, edit.lesion, edit.origin, mask_yx, boxes, answer_yx=answer_yx)
            )
        return Segmentation.restored(
            self.shape_zyx,
            self.lesions,
            self.prompts,
            predictor.name,
            parts,
            self.parameters,
            edge_step=step_of(volume),
            edge=self.edge,
        )

    def is_same(self, marked: Segmentation, model: str) -> bool | None:
        """Whether a model's masks are those of the record, voxel for voxel; None where it does not say."""
        said = [
            expected == content_sha256(array)
            for expected, array in (
                (self.labels_sha256, marked.labels_zyx(model)),
                (self.mask_sha256, marked.mask_zyx(model)),
            )
            if expected is not None
        ]
        return all(said) if said else None

    def check_scan(self, volume: CTVolume) -> None:
        """Raise InputError where ``volume`` is not the scan that the record was made on."""
        got = volume.sha256
        if got != self.scan_sha256 or self.shape_zyx != volume.shape_zyx:
            raise InputError(
                f"A session belongs to the scan it was made on, with voxels of SHA-256 {self.scan_sha256[:12]}; "
                f"those of {volume.name} have {got[:12]}; open that scan, with the same series and offset."
            )

    def check_model(self, predictor: Predictor) -> list[str]:
        """Refuse another model than the record's; say what else has changed since, or cannot be known.

        Raises:
            InputError: other weights, another configuration of an adapter, or another crop of its refinement.

        Returns:
            Sentences for people; none where all that the record says is as it was.

        """
        self.check_weights(predictor.weights_sha256)
        if self.identity is None:
            return [BEFORE_IDENTITY]
        now = mask_identity(predictor, refinement=self.second_look, edge=self.edge)
        for name, value in predictor.settings.items():
            if (expected := self.identity.settings.get(name)) != value:
                raise InputError(
                    f"A session is run again with its model's own settings; {self.model} had {name} {expected}, and "
                    f"has {value}; restore its training.json, or segment anew from the boxes."
                )
        changed = replace(self.identity, settings=now.settings).differences(now)
        return [f"Changed since the session's record was made: {', '.join(changed)}."] * bool(
            changed
        )

    def check_weights(self, weights_sha256: Mapping[str, str]) -> None:
        """Raise InputError where a model's weights are not those that the record was made with."""
        given = dict(weights_sha256)
        if self.identity is None:
            # Older records have an adapter's matrices alone.
            given = {
                file: sha
                for file, sha in given.items()
                if file in self.weights_sha256 or not file.endswith("/adapter_config.json")
            }
        if given != dict(self.weights_sha256):
            expected, got = (
                ", ".join(f"{file} {sha[:12]}" for file, sha in sorted(hashes.items())) or "none"
                for hashes in (self.weights_sha256, given)
            )
            raise InputError(
                f"A session is run again with its own weights of {self.model}: expected {expected}, got {got}; "
                "fetch those weights, or segment anew from the boxes."
            )


#: Of a record of schema 1 or 2 that is run again.
BEFORE_IDENTITY = (
    "The session's record is of an earlier version, which did not say an adapter's configuration, the refinement's "
    "crop, the back end or the program's own code: that these are as they were was not checked."
)


def same_mask_note(same: bool, changed: Sequence[str]) -> str:
    """Whether a session's mask came out again, in a sentence; ``changed``: what ``SessionRecord.check_model`` said."""
    if same:
        return "The mask is the session's, voxel for voxel."
    why = "" if changed else ": all that its record says is as it was, so the processor differs"
    return f"The mask differs from the session's in some voxels{why}."


def session_record(
    volume: CTVolume,
    boxes: Mapping[int, Sequence[Box]],
    mask_zyx: npt.ArrayLike,
    *,
    model: str,
    weights_sha256: Mapping[str, str],
    second_look: bool | None = None,
    edge: bool = False,
    identity: Identity | None = None,
) -> dict[str, Any]:
    """What boxes alone gave, as a JSON document, which ``load_session`` reads.

    ``boxes`` maps a slice's index to its boxes, ``mask_zyx`` is the mask [z, y, x] they gave. Keys:
    ``schema_version``; ``scan`` (``scan_record``); ``boxes``, a list of {``slice`` from 0, ``box_xyxy``}; ``model``;
    ``weights_sha256``, {file: hash}; ``second_look``; ``edge``, whether the edge at half height was on;
    ``identity``, of what made the masks (``Identity.record``); ``mask_sha256``; ``slices``, a list of {``slice``,
    ``area_mm2``, ``height_mm``, ``volume_ml``}; ``volume_ml``, the total; ``versions``; ``notice``.
    """
    mask = np.asarray(mask_zyx) != 0
    return {
        "schema_version": SCHEMA_VERSION,
        "scan": scan_record(volume),
        "boxes": boxes_record(boxes),
        "model": model,
        "weights_sha256": dict(weights_sha256),
        "second_look": second_look,
        "edge": edge,
        "identity": None if identity is None else identity.record(),
        "mask_sha256": content_sha256(mask),
        "slices": table_record(mask, volume),
        "volume_ml": volume_ml(mask, volume),
        "versions": versions(),
        "notice": NOTICE,
    }


def segmentation_record(
    volume: CTVolume,
    marked: Segmentation,
    *,
    model: str,
    weights_sha256: Mapping[str, str],
    second_look: bool | None = None,
    identity: Identity | None = None,
) -> dict[str, Any]:
    """One model's masks of a scan as a JSON document, which ``load_session`` reads: all that makes them again.

    The keys of ``session_record``, of which ``boxes`` has each box's ``lesion`` too, ``slices`` and ``volume_ml`` are
    of the blood, and: ``lesions`` (``lesions_record``); ``propagated``, a list of {``lesion``, ``parameters``,
    ``boxes`` (slice, box_xyxy)}; ``edits``, a list of {``slice``, ``lesion``, ``origin``, ``runs``}, masks that boxes
    do not give, with the runs of ``Edit`` as one text, and ``answer``, true, where the edge is to be drawn on them;
    ``labels_sha256``. ``second_look`` says how the boxes that a person drew were answered; those of a propagation too,
    unless its parameters say otherwise. ``edge``: whether the edge at half height is on; it is drawn on what the model
    answers, where it takes it (``models.takes_edge``).
    """
    labels, mask = marked.labels_zyx(model), marked.mask_zyx(model)
    return {
        "schema_version": SCHEMA_VERSION,
        "scan": scan_record(volume),
        "lesions": lesions_record(labels, volume, marked.lesions),
        **marks_record(marked, model),
        "model": model,
        "weights_sha256": dict(weights_sha256),
        "second_look": second_look,
        "edge": marked.edge,
        "identity": None if identity is None else identity.record(),
        "mask_sha256": content_sha256(mask),
        "labels_sha256": content_sha256(labels),
        "slices": table_record(mask, volume),
        "volume_ml": volume_ml(mask, volume),
        "versions": versions(),
        "notice": NOTICE,
    }


def load_session(path: str | Path) -> SessionRecord:
    """Read a session record. Raises InputError where the file is not one, or is of a later schema."""
    path = Path(path)
    try:
        record = load_json(path)
    except OSError as error:
        raise InputError(
            f"A session is a JSON file that can be read; {path.name} cannot ({error.strerror}); "
            "check its path."
        ) from error
    except RecordError as error:
        raise _not_a_session(path, str(error)) from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if not isinstance(version, int):
        raise _not_a_session(path, "it has no schema_version")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"This version reads session records up to schema {SCHEMA_VERSION}; {path.name} has {version}; "
            "update ichseg."
        )
    try:
        return _session(record)
    except (InputError, RecordError) as error:
        raise _not_a_session(path, str(error).rstrip(".")) from error


def _session(record: Mapping[str, Any]) -> SessionRecord:
    scan = json_field(record, "scan", "an object")
    depth, rows, columns = _whole_numbers(scan, "shape_zyx", 3, "its scan")
    plain = record["schema_version"] != 2 and "lesions" not in record  # what boxes alone gave
    marks = read_marks(record, (depth, rows, columns), plain=plain)
    identity = json_field(record, "identity", "an object", default=None, or_null=True)
    automatic = json_field(record, "automatic", "an object", default=None, or_null=True)
    files = json_field(record, "weights_sha256", "an object")
    hashes = {
        key: json_field(record, key, "text", default=None, or_null=True)
        for key in ("mask_sha256", "labels_sha256")
    }
    return SessionRecord(
        scan_sha256=json_field(scan, "sha256", "text", "its scan"),
        shape_zyx=(depth, rows, columns),
        prompts=marks.prompts,
        model=json_field(record, "model", "text"),
        weights_sha256={file: str(sha) for file, sha in files.items()},
        second_look=second_look_in(record, "it"),
        mask_sha256=hashes["mask_sha256"],
        labels_sha256=hashes["labels_sha256"],
        lesions=marks.lesions,
        propagated=marks.propagated,
        parameters={id: parameters_of(one) for id, one in marks.parameters.items()},
        edits=marks.edits,
        identity=None if identity is None else Identity.from_record(identity),
        edge=json_field(record, "edge", "true or false", default=False),
        automatic=None if automatic is None else Automatic.from_record(automatic),
    )


def _whole_numbers(row: Any, key: str, count: int, where: str) -> list[int]:
    numbers = [
        of_kind(one, "a whole number", f'a number of "{key}" of {where}')
        for one in json_field(row, key, "a list", where)
    ]
    if len(numbers) != count:
        raise RecordError(f'"{key}" of {where} has {len(numbers)} numbers, not {count}')
    return numbers


def _not_a_session(path: Path, why: str) -> InputError:
    return InputError(
        f"A session is a record that this program saved; {path.name} is not: {why}; "
        "save the session again, or choose the right file."
    )
