"""Training examples of some patients: the same ones whenever they are asked for.

``TrainingSlices`` makes examples as Guo, Law, Park 2024 do, and with ``ExampleConfig`` in other ways. An
example depends on its index, the epoch and the seed alone, so a run that is taken up again sees what it would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.marks.box import Box, box_from_mask, jitter
from ichseg.methods.frame import MODEL_SIZE, PAPER, SliceFrame
from ichseg.scan.skull import intracranial
from train.data.cache import Mask, Prepared, ScanEntry, Slice
from train.data.cases import DataError
from train.data.example_config import ExampleConfig
from train.data.implants import paste
from train.data.placement import moved, random_crop, rotate, rotate_labels
from train.data.slices import Labels, bloodless_slices, keep_large, label_components


@dataclass(frozen=True, eq=False)
class Example:
    """What a model is shown, in its own frame: LiteMedSAM's of 256 x 256 unless TrainingSlices was given another.

    ``image`` float32 [256, 256] in 0..1, of which the upper left ``content_yx`` are no padding; ``box_xyxy``
    float32 [4]; ``target`` bool, as large as what the model predicts: [256, 256].
    ``key`` names the image: the same key, the same pixels; None for an image drawn afresh, which is not worth keeping.
    """

    image: npt.NDArray[np.float32]
    box_xyxy: npt.NDArray[np.float32]
    target: Mask
    patient_id: str
    scan_id: str
    slice_index: int
    key: str | None
    content_yx: tuple[int, int] = (MODEL_SIZE, MODEL_SIZE)


@dataclass(frozen=True)
class _Item:
    """A slice and the components (labels from 1) that its box is drawn around."""

    scan_id: str
    slice_index: int
    components: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Scene:
    """A slice before it is framed: HU and labelled components, both [y, x], and the labels that a box is drawn around.

    Where ``is_empty`` the prompted label is only a place to look at: there is nothing to find in it.
    """

    slice_hu: Slice
    labels: Labels
    prompted: tuple[int, ...]
    is_empty: bool = False


class TrainingSlices:
    """The training examples of some patients of a prepared data set.

    ``len`` of them make an epoch: first the real ones, then implants, then negatives. ``example(i, epoch)`` makes one;
    ``order(epoch)`` is that epoch's shuffled order. Blood and bloodless slices alike come from
    ``patients`` alone. Several processes may share one of these.

    ``frame_of`` gives a model's frame of a slice of (rows, columns) and a region of it (BoxNetwork.frame),
    ``target_size`` the side of what it predicts; without them both are LiteMedSAM's. What is drawn at random is the
    same for any.
    """

    def __init__(
        self,
        prepared: Prepared,
        patients: Iterable[str],
        config: ExampleConfig | None = None,
        *,
        seed: int = 0,
        frame_of: Callable[[tuple[int, int], Box], SliceFrame] = SliceFrame,
        target_size: int = MODEL_SIZE,
    ) -> None:
        self.prepared = prepared
        self.config = config or ExampleConfig()
        self.seed = seed
        self._frame_of = frame_of
        self._target_size = target_size
        self._scans = prepared.scans_of(patients)
        self._items = [item for scan in self._scans for item in self._items_of(scan)]
        if not self._items:
            raise DataError(
                f"Training needs a slice with blood; the {len(self._scans)} scans given have no component of "
                f"{self.config.min_component_px:g} px at 512 x 512; add patients or lower min_component_px."
            )
        self._bloodless = [pair for scan in self._scans for pair in bloodless_slices(scan)]
        self._implants = round(self.config.implant_share * len(self._items))
        self._negatives = round(self.config.negative_share * len(self._items))
        if self._implants + self._negatives and not self._bloodless:
            raise DataError(
                "Implants and negatives need slices without blood; these patients have none; turn "
                "implant_share and negative_share off or add patients."
            )

    def __len__(self) -> int:
        return len(self._items) + self._implants + self._negatives

    @property
    def n_real(self) -> int:
        """How many examples come from a slice as it is; the first so many."""
        return len(self._items)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The indices of an epoch in the order to train on them."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self))

    def example(self, index: int, epoch: int = 0) -> Example:
        """Example ``index`` as it is in ``epoch``; IndexError beyond ``len``."""
        if not 0 <= index < len(self):
            raise IndexError(f"examples are numbered 0 to {len(self) - 1}; got {index}")
        rng = np.random.default_rng([self.seed, epoch, index])
        key: str | None = None
        if index < len(self._items):
            item = self._items[index]
            labels = self._labels(item.scan_id, item.slice_index)
            hu = self.prepared.slice_hu(item.scan_id, item.slice_index)
            scene = _Scene(hu, labels, item.components)
            key = f"{item.scan_id}/{item.slice_index}" if self.config.has_fixed_images else None
            where = (item.scan_id, item.slice_index)
        elif index < len(self._items) + self._implants:
            where, scene = self._implant(rng)
        else:
            where, scene = self._negative(rng)
        if self.config.skull_strip:
            inside = self._intracranial(*where)
            if inside.any():
                scene = dataclasses.replace(
                    scene, slice_hu=np.where(inside, scene.slice_hu, np.float32(-100))
                )
        scene, mirrored = self._mirrored(scene, rng)
        frame, image, box, target = self._framed(
            scene, self.prepared.scans[where[0]].reference_scale, rng
        )
        return Example(
            image=image,
            box_xyxy=box,
            target=target,
            patient_id=self.prepared.scans[where[0]].patient_id,
            scan_id=where[0],
            slice_index=where[1],
            key=key and key + mirrored,
            content_yx=frame.content_yx,
        )

    def _items_of(self, scan: ScanEntry) -> Iterator[_Item]:
        for k, entry in enumerate(scan.slices):
            if entry.mask_row is None:
                continue
            components = tuple(range(1, int(self._labels(scan.scan_id, k).max()) + 1))
            if (
                components
                and self.config.box_per != "component"
                and not (self.config.box_per == "both" and len(components) == 1)
            ):
                yield _Item(scan.scan_id, k, components)
            if self.config.box_per != "slice":
                yield from (_Item(scan.scan_id, k, (component,)) for component in components)

    def _labels(self, scan_id: str, k: int) -> Labels:
        scan = self.prepared.scans[scan_id]
        least = self.config.min_component_px * scan.reference_scale**2
        return label_components(self.prepared.mask(scan_id, k), scan.slices[k], least)

    def _mirrored(self, scene: _Scene, rng: np.random.Generator) -> tuple[_Scene, str]:
        """The scene, mirrored or not as the dice say, and a suffix that names how."""
        axes: tuple[int, ...] = ()
        suffix = ""
        if self.config.flip_up_down and rng.random() < 0.5:
            axes, suffix = (0,), "/ud"
        if self.config.flip_left_right and rng.random() < 0.5:
            axes, suffix = (*axes, 1), suffix + "/lr"
        flipped = dataclasses.replace(
            scene, slice_hu=np.flip(scene.slice_hu, axes), labels=np.flip(scene.labels, axes)
        )
        return flipped, suffix

    def _framed(
        self, scene: _Scene, scale: float, rng: np.random.Generator
    ) -> tuple[SliceFrame, npt.NDArray[np.float32], npt.NDArray[np.float32], Mask]:
        """The model's frame of a scene, of the whole slice or of a crop, and image, box and target in it."""
        config = self.config
        rows, columns = scene.slice_hu.shape
        labels, degrees = scene.labels, 0.0
        if config.rotation_degrees:
            degrees = rng.uniform(-config.rotation_degrees, config.rotation_degrees)
            labels = rotate_labels(scene.labels, degrees)
            if not np.isin(scene.prompted, labels).any():  # turned off the slice
                labels, degrees = scene.labels, 0.0
        box = box_from_mask(
            np.isin(labels, scene.prompted), config.box_margin_px * max(rows, columns) / MODEL_SIZE
        )
        assert box is not None
        target = np.zeros(labels.shape, dtype=bool)
        if not scene.is_empty:
            target = prompted(labels, scene.prompted, box)
        if config.box_jitter_px:
            box = jitter(box, config.box_jitter_px * scale, rng, (rows, columns))
        region = Box(0, 0, columns, rows)
        if config.crop_sides is not None and rng.random() < config.crop_share:
            region = random_crop(box, (rows, columns), config.crop_sides, config.crop_least_px, rng)
        seen = region.clip((rows, columns))
        hu = rotate(scene.slice_hu, degrees, seen) if degrees else scene.slice_hu[seen.slices()]
        frame = self._frame_of((hu.shape[0], hu.shape[1]), moved(region, seen))
        image = frame.image(self._weathered(hu, scale, rng))
        wanted = dataclasses.replace(frame, size=self._target_size).mask(target[seen.slices()])
        return frame, image, frame.box(moved(box, seen)), wanted

    def _weathered(self, hu: Slice, scale: float, rng: np.random.Generator) -> Slice:
        """HU with the configured denoising, blur, noise, contrast and shift."""
        config = self.config
        if config.median_px:
            hu = ndimage.median_filter(hu, size=config.median_px)
        if config.blur_px:
            hu = ndimage.gaussian_filter(hu, rng.uniform(0, config.blur_px * scale))
        if config.noise_hu or config.hu_scale or config.hu_shift:
            # 8-bit data end at 100 HU, where bone is flat: it must stay white, whatever is added.
            hu = np.where(hu >= PAPER.high - 1, hu + 200, hu)
        if config.noise_hu:
            sd = np.float32(rng.uniform(0, config.noise_hu))
            hu = hu + sd * rng.standard_normal(hu.shape, dtype=np.float32)
        if config.hu_scale:
            hu = (hu - 35) * np.float32(1 + rng.uniform(-config.hu_scale, config.hu_scale)) + 35
        if config.hu_shift:
            hu = hu + np.float32(rng.uniform(-config.hu_shift, config.hu_shift))
        return hu

    def _intracranial(self, scan_id: str, k: int) -> Mask:
        rows, columns = self.prepared.scans[scan_id].shape_zyx[1:]
        bits = np.unpackbits(self._intracranial_bits(scan_id, k), count=rows * columns)
        return bits.reshape(rows, columns).view(bool)

    @lru_cache(maxsize=4096)  # noqa: B019 - 50 kB a slice, and it lives as long as training does
    def _intracranial_bits(self, scan_id: str, k: int) -> npt.NDArray[np.uint8]:
        return np.packbits(intracranial(self.prepared.slice_hu(scan_id, k)))

    def _implant(self, rng: np.random.Generator) -> tuple[tuple[str, int], _Scene]:
        """A bloodless slice with a real component of the blood of another training slice laid into it.

        The component goes to the like place of the other head (or its mirror image), scaled from one skull's
        inside to the other's, and is cut off at the bone. Blood keeps its own texture and brightness, but for the
        difference between the two brains' medians, and its edge is blended. After 20 pairs that do
        not fit, a negative stands in.
        """
        for _ in range(20):
            item = self._items[rng.integers(len(self._items))]
            where = self._bloodless[rng.integers(len(self._bloodless))]
            donor = (item.scan_id, item.slice_index)
            inside_donor, inside = self._intracranial(*donor), self._intracranial(*where)
            share, share_donor = (np.count_nonzero(m) / m.size for m in (inside, inside_donor))
            if not 0 < 0.6 * share_donor <= share <= 1.6 * share_donor:
                continue
            component = self._labels(*donor) == rng.choice(item.components)
            hu = self.prepared.slice_hu(*where)
            pasted = paste(self.prepared.slice_hu(*donor), component, inside_donor, hu, inside, rng)
            if pasted is None:
                continue
            hu, blood = pasted
            labels = keep_large(
                blood,
                self.config.min_component_px * self.prepared.scans[where[0]].reference_scale ** 2,
            )
            if labels.any():
                return where, _Scene(hu, labels, tuple(range(1, int(labels.max()) + 1)))
        return self._negative(rng)

    def _negative(self, rng: np.random.Generator) -> tuple[tuple[str, int], _Scene]:
        """A bloodless slice with a box of a real component's size somewhere inside the skull; nothing to find."""
        for _ in range(100):
            where = self._bloodless[rng.integers(len(self._bloodless))]
            inside = self._intracranial(*where)
            if inside.any():
                break
        else:
            inside = np.ones(self.prepared.scans[where[0]].shape_zyx[1:], dtype=bool)
        rows, columns = np.nonzero(inside[::4, ::4])
        place = np.zeros(inside.shape, dtype=np.int32)
        for _ in range(20):
            item = self._items[rng.integers(len(self._items))]
            size = box_from_mask(
                np.isin(self._labels(item.scan_id, item.slice_index), item.components)
            )
            assert size is not None
            scale = max(inside.shape) / max(self.prepared.scans[item.scan_id].shape_zyx[1:])
            i = rng.integers(len(rows))
            y0 = max(0, int(4 * rows[i] - size.height * scale / 2))
            x0 = max(0, int(4 * columns[i] - size.width * scale / 2))
            area = np.s_[
                y0 : y0 + max(1, int(size.height * scale)),
                x0 : x0 + max(1, int(size.width * scale)),
            ]
            if inside[area].mean() >= 0.7:
                break
        place[area] = 1
        return where, _Scene(self.prepared.slice_hu(*where), place, (1,), is_empty=True)


def prompted(labels: Labels, prompted: Sequence[int], box: Box) -> Mask:
    """The components that a box asks for: those it was drawn around, and any with half of its area in the box."""
    areas = np.bincount(labels[labels > 0], minlength=max(prompted) + 1)
    inside = labels[box.slices()]
    wanted = 2 * np.bincount(inside[inside > 0], minlength=areas.size) >= np.maximum(areas, 1)
    wanted[list(prompted)] = True
    wanted[0] = False
    target: Mask = wanted[labels]
    return target


def chunks(indices: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Successive parts of ``size``, the last one of what is left."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
