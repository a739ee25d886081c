"""What proposals are trained on, computed once: each slice's embedding by a network, its image and its mask.

    FOLDER/features.json   the network, and the data's hash: whose features these are
    FOLDER/rows.json       [scan, patient, slice] of each row
    FOLDER/NAME.npy        an array whose first axis is the row, and NAME.done beside it, how many of them are made
    FOLDER/fold-K/emb.npy  the embedding by fold K's own adapter, of the rows that this fold trains on or holds out

Interrupted, it goes on where it was. The un-tuned network has seen no patient of any data set here, so that one set of
its embeddings serves all folds. An adapter has seen those that it was trained on, so that each fold has its own.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.methods.blood_finder import EMBEDDED_BY, as_grid, reflection_of
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.frame import MODEL_SIZE, SliceFrame
from ichseg.methods.predictor import Predictor, SliceEmbedding
from ichseg.methods.random_forest import SEEN
from ichseg.scan.skull import intracranial
from ichseg.scan.slabs import Slab, SliceOrSlab
from ichseg.scan.volume import CTVolume
from train.data.cache import Mask, Prepared, Slice
from train.data.files import replace_file, write_json

Array = npt.NDArray[Any]

_SAVE_EVERY = 40


class Features:
    """A folder of features, opened; ``complete`` makes what it lacks."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        """Open a folder for some data, or begin one.

        Raises:
            InputError: a folder with the features of other data.

        """
        self.folder, self.prepared = folder, prepared
        mine = {"data_sha256": prepared.sha256, "network": EMBEDDED_BY}
        path = folder / "features.json"
        if not path.exists():
            write_json(path, mine)
        elif (there := json.loads(path.read_text(encoding="utf-8"))) != mine:
            raise InputError(
                f"A folder of features is of one data set and network; '{folder.name}' has {there}, and {mine} was "
                "asked for; give another --features."
            )
        self.network = EMBEDDED_BY
        """Whose embedding it is: a name of the catalogue, or an adapter's folder."""
        self._embeddings = folder
        self.rows = [
            (scan.scan_id, scan.patient_id, k)
            for scan in prepared.scans.values()
            for k in range(scan.shape_zyx[0])
        ]
        self.patients = np.array([patient for _, patient, _ in self.rows])
        scans = [scan for scan, *_ in self.rows]
        here = np.arange(len(scans))
        starts = np.array([i == 0 or scans[i - 1] != scans[i] for i in here])
        ends = np.append(starts[1:], True)
        self.below, self.above = here - ~starts, here + ~ends
        self.embedded = np.ones(len(self.rows), dtype=bool)
        """The rows that have an embedding, once it is complete."""

    def by(self, network: str, identity: Mapping[str, str], name: str, embedded: Mask) -> Features:
        """The same features with the embedding by another network, in a folder of its own below this one.

        Args:
            network: a name of the catalogue, or an adapter's folder.
            identity: {file: hash} of its weights.
            name: of the folder.
            embedded: bool [rows], which of them are embedded.

        Raises:
            InputError: a folder with the embeddings of another network or of other slices.

        """
        folder = self.folder / name
        mine = {"network": dict(identity), "rows": _hash(embedded)}
        path = folder / "embeddings.json"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, mine)
        if json.loads(path.read_text(encoding="utf-8")) != mine:
            raise InputError(
                f"A folder of embeddings is of one network and of the same slices; '{name}' has others; give another "
                "--features."
            )
        other = copy.copy(self)
        other.network, other._embeddings, other.embedded = network, folder, embedded
        return other

    @cached_property
    def marked(self) -> Mask:
        """The rows with blood in the frame, bool [rows]; once the images are complete."""
        return np.asarray(np.any(self.array("mask"), axis=(1, 2)))

    @cached_property
    def bloodless(self) -> Mask:
        """The rows that are told to have no blood, bool [rows]."""
        scans = self.prepared.scans
        return np.array(
            [scans[scan].slices[k].is_bloodless for scan, _, k in self.rows], dtype=bool
        )

    def complete_images(self, told: Callable[[str, int, int], object]) -> None:
        """Make what is not there yet and wants no network; ``told`` is as for ``complete``."""
        rows_file = self.folder / "rows.json"
        replace_file(rows_file, lambda part: part.write_text(json.dumps(self.rows)))
        square = (MODEL_SIZE, MODEL_SIZE)
        for name, dtype, make in (
            ("image", np.uint8, _image),
            ("mask", np.bool_, None),
            ("inside", np.bool_, _inside),
        ):
            self._fill(name, len(self.rows), square, dtype, self._of_row(make), told)

    def complete(
        self, predictor: Callable[[], Predictor], told: Callable[[str, int, int], object]
    ) -> None:
        """Make what is not there yet.

        Args:
            predictor: gives the method whose embeddings are kept.
            told: called with the name of an array, how many of its rows are made, and of how many.

        """
        self.complete_images(told)
        grid = (256, 64, 64)
        embed = _embedder(predictor)
        rows = np.flatnonzero(self.embedded)
        self._fill("emb", len(self.rows), grid, np.float16, self._of_row(embed), told, rows)

    def array(self, name: str) -> Array:
        """An array that is complete, mapped from disk."""
        array: Array = np.load(self._path(name), mmap_mode="r")
        return array

    def _path(self, name: str) -> Path:
        return (self._embeddings if name == "emb" else self.folder) / f"{name}.npy"

    def embeddings(self, scan_id: str, volume: CTVolume) -> Callable[[SliceOrSlab], SliceEmbedding]:
        """A scan's embeddings that are kept, by slice; those of a thin series' slabs are made."""
        kept = self.array("emb")
        first = next(row for row, (name, _, _) in enumerate(self.rows) if name == scan_id)

        def embedding(where: SliceOrSlab) -> SliceEmbedding:
            if isinstance(where, Slab):
                return load_predictor(self.network).embed(where.hu_yx)
            return SliceEmbedding(volume.hu_zyx[where], np.asarray(kept[first + where]))

        return embedding

    def _of_row(self, make: Callable[[Slice], Array] | None) -> Callable[[int], Array]:
        """What makes a row: of its slice in HU, or without ``make`` its reference mask in the frame."""

        def of(row: int) -> Array:
            scan, _, k = self.rows[row]
            if make is not None:
                return make(self.prepared.slice_hu(scan, k))
            mask = self.prepared.mask(scan, k)
            return _frame(mask).mask(mask)

        return of

    def _fill(
        self,
        name: str,
        count: int,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        make: Callable[[int], Array],
        told: Callable[[str, int, int], object],
        rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Make what an array of ``count`` rows lacks: all of them, or ``rows`` alone."""
        path = self._path(name)
        done = path.with_suffix(".done")
        rows = np.arange(count) if rows is None else rows
        start = int(done.read_text()) if done.exists() else 0
        if start == len(rows) and path.exists():
            return
        array = np.lib.format.open_memmap(
            path,
            mode="r+" if path.exists() and start else "w+",
            dtype=dtype,
            shape=(count, *shape),
        )
        for number, row in enumerate(map(int, rows[start:]), start + 1):
            array[row] = make(row)
            if number % _SAVE_EVERY == 0 or number == len(rows):
                array.flush()
                replace_file(done, lambda part, made=str(number): part.write_text(made))  # type: ignore[misc]
                told(name, number, len(rows))


def reflections(images: Array) -> npt.NDArray[np.float32]:
    """The reflection of each of a stack of images in 0..255: float32 [n, 2, 3]."""
    return np.stack([reflection_of(image.astype(np.float32) / 255) for image in images])


def _hash(which: Mask) -> str:
    return hashlib.sha256(np.packbits(which).tobytes()).hexdigest()


def _embedder(predictor: Callable[[], Predictor]) -> Callable[[Slice], Array]:
    return lambda hu: as_grid(predictor().embed(hu).features)


def _image(hu: Slice) -> Array:
    return np.round(_frame(hu).image(hu, SEEN) * 255).astype(np.uint8)


def _inside(hu: Slice) -> Array:
    return _frame(hu).mask(intracranial(hu))


def _frame(array: Array) -> SliceFrame:
    rows, columns = array.shape
    return SliceFrame((rows, columns))
