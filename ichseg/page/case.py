"""One open scan: its voxels while there is room for them, and what was marked on it."""

from __future__ import annotations

import math
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.methods.edge_step import step_of
from ichseg.page.measuring import Measuring
from ichseg.scan.series_info import SeriesInfo
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.cohort.study import StudyRow

BoolArray = npt.NDArray[np.bool_]

#: Single-box masks remembered, so that a further box on a slice costs one decoding, not all, and no
#: mask is refined twice. One is a few hundred bytes.
REMEMBERED_BOXES = 4096


@dataclass
class Upload:
    """Files that a person gave, or had fetched from the archive, in a folder of the session's own."""

    folder: Path
    paths: list[Path]
    study_uid: str = ""
    """The archive's study that they came from; empty for files that a person gave."""
    others: tuple[SeriesInfo, ...] = ()
    """That study's other series, which are not here."""


class Case:
    """One open scan: the volume while there is room for it, and what was marked on it.

    ``token`` is unguessable; it names the case in the page and in file names. ``read`` makes the volume, again if need
    be: an evicted volume is rebuilt from the upload.
    """

    def __init__(
        self,
        read: Callable[[], CTVolume],
        models: tuple[str, ...],
        upload: Upload | None = None,
        *,
        is_sample: bool = False,
        study_row: StudyRow | None = None,
    ) -> None:
        self.token = secrets.token_urlsafe(18)
        self.read = read
        self.upload = upload
        """The person's files that it is read from; None for the sample, and for a scan of the operator's study."""
        self.is_sample, self.study_row = is_sample, study_row
        self.volume: CTVolume | None = read()
        self.owner = self.volume.sha256 if is_sample else self.token
        """Whose embeddings are its own in their store: the sample's are everybody's, and made once."""
        self.warnings = self.volume.warnings
        self.acquired_at = self.volume.acquired_at
        self.models = models
        self.segmentation = Segmentation(self.volume.shape_zyx, edge_step=step_of(self._voxels))
        self.box_masks: OrderedDict[tuple[int, str, Box], _BoxMask] = OrderedDict()
        self.slice_ml: dict[int, dict[str, dict[int, float]]] = {}
        """Millilitres by slice, model and lesion, of what was last shown."""
        self.failed: set[tuple[int, str]] = set()
        """Slices whose mask a model could not make: they are not to pass for empty ones."""
        self.reference: npt.NDArray[np.uint8] | None = None
        """The packed bits of a reference mask to score against."""
        self.refinement_failed: set[tuple[int, str, Box]] = set()
        """Boxes whose refinement failed: they are tried again only before a download."""
        self.measuring = Measuring()

    def _voxels(self) -> CTVolume:
        """The scan, for a step on masks: there while something is marked; read again where it was put aside."""
        if self.volume is None:
            self.volume = self.read()
        return self.volume

    def remember(
        self, k: int, model: str, box: Box, mask_yx: BoolArray, *, refined: bool = False
    ) -> None:
        """Keep the mask of one box, dropping the oldest beyond REMEMBERED_BOXES."""
        self.box_masks[(k, model, box)] = _BoxMask(
            zlib.compress(np.packbits(mask_yx).tobytes(), 1), refined
        )
        while len(self.box_masks) > REMEMBERED_BOXES:
            self.box_masks.popitem(last=False)

    def recall(self, k: int, model: str, box: Box) -> BoolArray | None:
        """The mask of one box, bool [y, x], if it is still remembered."""
        kept = self.box_masks.get((k, model, box))
        if kept is None:
            return None
        shape_yx = self.segmentation.shape_zyx[1:]
        packed = np.frombuffer(zlib.decompress(kept.deflated), dtype=np.uint8)
        bits = np.unpackbits(packed, count=shape_yx[0] * shape_yx[1])
        return np.asarray(bits.reshape(shape_yx), dtype=bool)

    @property
    def reference_zyx(self) -> BoolArray | None:
        """The reference mask, bool [z, y, x]."""
        if self.reference is None:
            return None
        shape = self.segmentation.shape_zyx
        bits = np.unpackbits(self.reference, count=math.prod(shape))
        return np.asarray(bits.reshape(shape), dtype=bool)

    def lesion_ml(self, lesion: int, model: str) -> float:
        """A lesion's millilitres by a model, of what was last shown of its slices."""
        slices = self.segmentation.marked_slices(model, lesion)
        return sum(self.slice_ml.get(k, {}).get(model, {}).get(lesion, 0.0) for k in slices)

    def unrefined(self, k: int, model: str) -> list[Box]:
        """The boxes of slice k whose mask by a model is neither refined yet nor corrected by hand."""
        marked = self.segmentation
        return [
            box
            for lesion in marked.lesions
            if marked.origin(k, lesion.id, model) != "edited"
            for box in marked.boxes(k, lesion.id)
            if (kept := self.box_masks.get((k, model, box))) is None or not kept.refined
        ]


@dataclass(frozen=True)
class _BoxMask:
    """One box's mask: packed bits, deflated, and whether it was refined."""

    deflated: bytes
    refined: bool
