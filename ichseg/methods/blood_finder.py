"""The finder of blood: LiteMedSAM's embedding of a slice, and the slice, to a probability of blood at each pixel."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from scipy import ndimage

from ichseg.arrays import BoolArray
from ichseg.errors import InputError, WeightsError
from ichseg.methods.frame import MODEL_SIZE, FloatArray, SliceFrame
from ichseg.methods.network.detection_head import DetectionHead
from ichseg.methods.network.prompt_encoder import GRID_SIZE
from ichseg.methods.network.tiny_vit import EMBEDDING_DIM
from ichseg.methods.predictor import Predictor, Setting, SliceEmbedding, as_slice
from ichseg.methods.proposals import FindRule, Proposal, find
from ichseg.methods.random_forest import SEEN
from ichseg.methods.torch_backend import pick_device
from ichseg.methods.weights import sha256, verified_folder
from ichseg.methods.whole_slice import WholeSlicePredictor
from ichseg.scan.skull import intracranial
from ichseg.scan.slabs import SliceOrSlab, slabs_of
from ichseg.scan.volume import CTVolume

ARCHITECTURE = "detection-head"
#: The method of the catalogue whose embeddings a finder reads, where its config.json names none.
EMBEDDED_BY = "litemedsam"
#: The slices of the training data are this far apart: a neighbour is taken from as near to that as the scan has one.
NEIGHBOUR_MM = 5.0
#: Turned by more than this a head is no longer trusted to be found by its outline.
_MOST_DEGREES = 30.0


@dataclass(frozen=True, eq=False)
class BloodFinder:
    """Gives the probability of blood at each pixel. Thread-safe; holds weights only, nothing of anybody's scan."""

    name: str
    title: str
    head: DetectionHead
    rule: FindRule
    """How probabilities become proposals, as it was chosen with these weights."""
    weights_sha256: Mapping[str, str]
    device: torch.device
    embedded_by: str = EMBEDDED_BY
    """The method whose ``embed`` gives the embeddings: a name of the catalogue, or the folder of a fold's adapter."""

    @cached_property
    def _lock(self) -> threading.Lock:
        return threading.Lock()

    def probability(
        self,
        embedding: SliceEmbedding | npt.ArrayLike,
        slice_hu: npt.ArrayLike,
        below: npt.ArrayLike | None = None,
        above: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """The probability of blood in a slice's frame, float32 [256, 256] (``SliceFrame`` of the slice's shape).

        The mean over the slice and its mirror image, in which embedding and image are mirrored alike: no second
        encoding.

        Args:
            embedding: of this slice by ``embedded_by``: a SliceEmbedding, or its features as [256, 64, 64].
            slice_hu: [y, x] in HU.
            below: the slice about 5 mm towards the foot, of the same shape; None where the scan ends.
            above: the slice about 5 mm towards the head, likewise.

        Raises:
            InputError: slices of different shapes, or features of another network.

        """
        return self._answer(embedding, *inputs(slice_hu, below, above))

    def _answer(
        self, embedding: SliceEmbedding | npt.ArrayLike, images: FloatArray, reflection: FloatArray
    ) -> FloatArray:
        features = embedding.features if isinstance(embedding, SliceEmbedding) else embedding
        e = torch.from_numpy(as_grid(features)).to(self.device, torch.float32)[None]
        x = torch.from_numpy(images).to(self.device)[None]
        affine = torch.from_numpy(reflection).to(self.device)[None]
        with self._lock, torch.inference_mode():
            both = torch.cat([e, e.flip(-1)]), torch.cat([x, x.flip(-1)])
            reflections = torch.cat([affine, mirrored_reflection(affine)])
            straight, mirrored = self.head(*both, reflections).sigmoid()
            found: FloatArray = ((straight + mirrored.flip(-1)) / 2).float().cpu().numpy()
        return found

    def probabilities(
        self,
        volume: CTVolume,
        embed: Callable[[SliceOrSlab], SliceEmbedding],
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> FloatArray:
        """The probability of blood on every slice of a scan, float32 [z, 256, 256]; 0 from where it was cancelled.

        A thin series is looked at by its slabs (``scan.slabs``): all slices of a slab have what it has.

        Args:
            volume: the scan.
            embed: a slice or a slab to its embedding by ``embedded_by``, from a caller that keeps them.
            progress: called with the share that is done, 0 to 1.
            cancelled: asked before each slice or slab.

        """
        slabs = slabs_of(volume)
        if slabs is None:
            return self._each(volume, embed, progress, cancelled)
        each = slabs.each
        found = self._each(slabs.scan, lambda n: embed(each[n]), progress, cancelled)
        return found.repeat([len(slab.slices) for slab in each], axis=0)

    def _each(
        self,
        volume: CTVolume,
        embed: Callable[[int], SliceEmbedding],
        progress: Callable[[float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> FloatArray:
        """``probabilities`` slice by slice."""
        depth = volume.shape_zyx[0]

        @lru_cache(maxsize=32)  # a slice is its neighbours' neighbour, too
        def image(k: int) -> FloatArray:
            return _image(volume.hu_zyx[k])

        out = np.zeros((depth, MODEL_SIZE, MODEL_SIZE), dtype=np.float32)
        for k in range(depth):
            if cancelled is not None and cancelled():
                break
            below, above = (image(k if n is None else n) for n in neighbours(volume, k))
            seen = _inputs(volume.hu_zyx[k], below, image(k), above)
            out[k] = self._answer(embed(k), *seen)
            if progress is not None:
                progress((k + 1) / depth)
        return out

    def of_slice(self, volume: CTVolume, k: int, embedding: SliceEmbedding) -> FloatArray:
        """``probability`` of slice k of a scan, with its neighbours about 5 mm away.

        Of a thin series it is that of the slab that holds the slice; ``embedding`` is that of ``slab_at(volume, k)``.
        """
        slabs = slabs_of(volume)
        if slabs is not None:
            volume, k = slabs.scan, slabs.number(k)
        below, above = (
            None if other is None else volume.hu_zyx[other] for other in neighbours(volume, k)
        )
        return self.probability(embedding, volume.hu_zyx[k], below, above)

    def find(self, probability_zyx: npt.ArrayLike, volume: CTVolume) -> list[Proposal]:
        """What the probabilities propose by this finder's own rule, strongest first."""
        return find(probability_zyx, volume, self.rule)


class DetectionPredictor(WholeSlicePredictor):
    """A finder as a method without a prompt: where blood is likely on a slice seen alone, without its neighbours."""

    def __init__(self, finder: BloodFinder, base: Predictor) -> None:
        """Take a finder, and the method whose embeddings it reads."""
        self.finder, self.base = finder, base
        self.name, self.title = finder.name, finder.title
        self.weights_sha256 = {**base.weights_sha256, **finder.weights_sha256}

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {"extent": self.finder.rule.extent}

    @property
    def computed_by(self) -> str:
        return f"{self.base.computed_by}, torch {self.finder.device.type} float32"

    @property
    def packages(self) -> tuple[str, ...]:
        return (*self.base.packages, "torch")

    def find(self, slice_hu: npt.NDArray[np.number]) -> BoolArray:
        probability = self.finder.probability(self.base.embed(slice_hu), slice_hu)
        rows, columns = slice_hu.shape
        return SliceFrame((rows, columns)).positive(probability - self.finder.rule.extent)


def neighbours(volume: CTVolume, k: int) -> tuple[int | None, int | None]:
    """The slices that lie nearest to 5 mm below and above slice k, None where the scan ends before the next one."""
    away = volume.geometry.slice_positions_mm - volume.geometry.slice_positions_mm[k]
    return (
        int(np.abs(away[:k] + NEIGHBOUR_MM).argmin()) if k else None,
        k + 1 + int(np.abs(away[k + 1 :] - NEIGHBOUR_MM).argmin()) if k + 1 < len(away) else None,
    )


def as_grid(features: npt.ArrayLike | None) -> npt.NDArray[np.float16]:
    """Features as [256, 64, 64], whether they come so or place by place, [1, 4096, 256], as the page keeps them."""
    array = np.asarray(features)
    places = GRID_SIZE * GRID_SIZE
    if array.shape[-2:] == (places, EMBEDDING_DIM) and array.size == places * EMBEDDING_DIM:
        array = array.reshape(GRID_SIZE, GRID_SIZE, EMBEDDING_DIM).transpose(2, 0, 1)
    elif (
        array.shape[-3:] == (EMBEDDING_DIM, GRID_SIZE, GRID_SIZE)
        and array.size == places * EMBEDDING_DIM
    ):
        array = array.reshape(EMBEDDING_DIM, GRID_SIZE, GRID_SIZE)
    else:
        raise InputError(
            f"A finder reads LiteMedSAM's embedding of one slice, [256, 64, 64]; got {array.shape}; embed the slice "
            f"with '{EMBEDDED_BY}'."
        )
    return np.array(array, dtype=np.float16, order="C")  # its own: torch wants what it can write to


def inputs(
    slice_hu: npt.ArrayLike, below: npt.ArrayLike | None, above: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """What a head sees of a slice beside its embedding: images float32 [4, 256, 256], and the reflection [2, 3]."""
    middle = as_slice(slice_hu)
    others = [middle if one is None else as_slice(one) for one in (below, above)]
    for one in others:
        if one.shape != middle.shape:
            raise InputError(
                f"A slice's neighbours have its shape, {middle.shape}; got {one.shape}; pass slices of one scan."
            )
    below_image, image, above_image = (_image(one) for one in (others[0], middle, others[1]))
    return _inputs(middle, below_image, image, above_image)


def _inputs(
    slice_hu: npt.NDArray[np.number], below: FloatArray, image: FloatArray, above: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``inputs`` from the images of a slice and its neighbours, each [256, 256]."""
    rows, columns = slice_hu.shape
    inside = SliceFrame((rows, columns)).mask(intracranial(slice_hu.astype(np.float32)))
    return np.stack([below, image, above, inside]).astype(np.float32), reflection_of(image)


def _image(slice_hu: npt.NDArray[np.number]) -> FloatArray:
    rows, columns = slice_hu.shape
    return SliceFrame((rows, columns)).image(slice_hu, SEEN)


def reflection_of(image: FloatArray) -> FloatArray:
    """The reflection of the frame across the head's midline, as ``across`` takes it: float32 [2, 3].

    The midline goes through the middle of the head's outline along its longer axis, which is from front to back. A head
    whose outline has no axis within 30 degrees of that is taken as upright, and an empty slice about its middle.

    Args:
        image: [256, 256], the slice in the window of -20 to 100 HU as [0, 1].

    """
    head = _outline(image)
    y, x = np.nonzero(head)
    if y.size < 2:
        return _reflection(0.0, 0.0, 0.0)
    size = len(image)
    cy, cx = float(y.mean()), float(x.mean())
    yy, xx, xy = ((y - cy) ** 2).mean(), ((x - cx) ** 2).mean(), ((y - cy) * (x - cx)).mean()
    # The angle of the longer axis from the vertical, in [-90, 90] degrees.
    degrees = float(np.degrees(0.5 * np.arctan2(2 * xy, yy - xx)))
    if abs(degrees) > _MOST_DEGREES:
        degrees = 0.0
    return _reflection((2 * cx + 1) / size - 1, (2 * cy + 1) / size - 1, degrees)


def _outline(image: FloatArray) -> BoolArray:
    """The head as one filled component: all that is brighter than air or fat, without what is as thin as a headrest."""
    step = 4
    size = len(image) // step
    coarse = image.reshape(size, step, size, step).mean(axis=(1, 3)) > 0.15
    opened = ndimage.binary_opening(ndimage.binary_fill_holes(coarse), iterations=2)
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.zeros(image.shape, dtype=bool)
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    whole: BoolArray = largest.repeat(step, axis=0).repeat(step, axis=1)
    return whole


def _reflection(centre_x: float, centre_y: float, degrees: float) -> FloatArray:
    """Across the line through a centre, turned by an angle from the vertical; lengths in [-1, 1] over the frame."""
    turn = 2 * np.radians(degrees)
    matrix = np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([centre_x, centre_y])
    return np.column_stack([matrix, centre - matrix @ centre]).astype(np.float32)


def mirrored_reflection(affine: torch.Tensor) -> torch.Tensor:
    """The reflection [n, 2, 3] of frames whose columns are reversed."""
    signs = affine.new_tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]])
    return affine * signs


def load_finder(name: str, device: str = "auto") -> BloodFinder:
    """Open a folder that ``train proposals`` wrote, or the manifest's entry of that name."""
    if Path(name).is_dir():
        folder, title = Path(name), Path(name).name
    else:
        folder, title = verified_folder(name, name), name
    files = {file: folder / file for file in ("config.json", "model.safetensors")}
    for file, path in files.items():
        if not path.is_file():
            raise WeightsError(
                f"A finder's folder holds config.json and model.safetensors; {folder.name} has no {file}; point at "
                "one that train proposals finished."
            )
    config = json.loads(files["config.json"].read_text(encoding="utf-8"))
    if config.get("architecture") != ARCHITECTURE:
        raise WeightsError(
            f"A finder's config.json names the architecture {ARCHITECTURE}; {folder.name} has "
            f"{config.get('architecture')}; use a folder that train proposals wrote."
        )
    where = pick_device(device)
    head = DetectionHead(int(config["width"]))
    tensors = load_file(files["model.safetensors"])
    head.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=True)
    head.to(where).eval().requires_grad_(False)
    hashes = {f"{folder.name}/{file}": sha256(path) for file, path in files.items()}
    rule = FindRule(**config.get("rule", {}))
    embedded_by = str(config.get("embedded_by", EMBEDDED_BY))
    return BloodFinder(name, title, head, rule, hashes, where, embedded_by)
