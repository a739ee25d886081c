"""Embed once, prompt many; the same interface for every method."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import phantoms
import pytest

from ichseg.errors import BoxError, InputError
from ichseg.marks.box import Box
from ichseg.methods.backends import Backend
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.frame import Framing
from ichseg.methods.predictor import NetworkPredictor, Predictor, SliceEmbedding, crop_region
from ichseg.methods.propagation import propagate
from ichseg.methods.torch_backend import TorchBackend
from ichseg.scan.volume import CTVolume

SHAPE = (320, 400)
BLOOD = Box(150, 120, 230, 200)


def slice_hu(seed: int = 0) -> np.ndarray:
    """Brain at 35 HU with an ellipse of blood at 65 HU in BLOOD, air around."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    hu = np.full(SHAPE, -1000.0)
    brain = ((x - 200) / 170) ** 2 + ((y - 160) / 140) ** 2 < 1
    hu[brain] = 35 + rng.normal(0, 2, int(brain.sum()))
    hu[reference()] = 65 + rng.normal(0, 2, int(reference().sum()))
    return hu


def reference() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return ((x - 189.5) / 40) ** 2 + ((y - 159.5) / 40) ** 2 < 1


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture(
    params=[
        pytest.param("litemedsam/torch", marks=pytest.mark.slow),
        "litemedsam/openvino",
        "threshold/auto",
    ]
)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    name, backend = request.param.split("/")
    if backend == "openvino":
        pytest.importorskip("openvino", exc_type=ImportError)
    return load_predictor(name, backend=backend)


@cache
def embedding_of(predictor: Predictor) -> SliceEmbedding:
    """The slice, embedded once for all tests: a network takes a second for it."""
    return predictor.embed(slice_hu())


def test_a_plain_hematoma_is_found_at_native_size(predictor: Predictor) -> None:
    embedding = embedding_of(predictor)
    result = predictor.predict(embedding, [BLOOD])
    assert result.masks.shape == (1, *SHAPE)
    assert result.masks.dtype == bool
    assert result.iou.shape == (1,) and result.iou.dtype == np.float32
    assert dice(result.union, reference()) > 0.9


def test_two_boxes_give_two_masks_in_their_order(predictor: Predictor) -> None:
    embedding = embedding_of(predictor)
    left, right = Box(140, 110, 190, 210), Box(190, 110, 240, 210)
    both = predictor.predict(embedding, [left, right]).masks
    for mask, box in zip(both, (left, right), strict=True):
        alone = predictor.predict(embedding, [box]).masks[0]
        assert dice(mask, alone) > 0.99


def test_no_boxes_are_no_masks(predictor: Predictor) -> None:
    result = predictor.predict(embedding_of(predictor), [])
    assert result.masks.shape == (0, *SHAPE)
    assert not result.union.any()


def test_whole_numbers_and_arrays_of_boxes_are_taken(predictor: Predictor) -> None:
    rounded = predictor.embed(slice_hu().round().astype(np.int16))
    from_array = predictor.predict(rounded, np.array([BLOOD.xyxy])).union
    from_box = predictor.predict(rounded, [BLOOD]).union
    assert (from_array == from_box).all()


def test_a_box_off_the_slice_is_refused(predictor: Predictor) -> None:
    embedding = embedding_of(predictor)
    with pytest.raises(BoxError, match="400 columns by 320 rows"):
        predictor.predict(embedding, [Box(500, 10, 600, 50)])


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 4)), np.zeros(0), np.array([["a"]])])
def test_what_is_no_slice_is_refused(predictor: Predictor, bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="two-dimensional array of HU"):
        predictor.embed(bad)


@pytest.mark.slow
def test_users_at_once_get_each_their_own_answer() -> None:
    predictor = load_predictor("litemedsam")
    slices = [slice_hu(seed) for seed in range(3)]
    boxes = [Box(150, 120, 230, 200), Box(150, 120, 190, 200), Box(185, 120, 230, 200)]

    def one(i: int) -> np.ndarray:
        return predictor.predict(predictor.embed(slices[i]), [boxes[i]]).union

    alone = [one(i) for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(one, range(3)))
    for a, b in zip(alone, together, strict=True):
        assert (a == b).all()


def test_a_second_look_answers_at_the_same_place() -> None:
    predictor = load_predictor("litemedsam")
    embedding = embedding_of(predictor)
    looked = predictor.predict(embedding, [BLOOD], second_look=True)
    assert looked.masks.shape == (1, *SHAPE)
    assert dice(looked.union, reference()) > 0.9


class Sided(Backend):
    """Bright is blood, and more so in the right half of what it sees; as sure as the share that is bright."""

    name, device, precision, framing = "torch", "cpu", "float32", Framing()

    def encode(self, images: Sequence[np.ndarray], contents_yx: object) -> list[np.ndarray]:
        return [image[None].astype(np.float16) for image in images]

    def decode(
        self, embedding: np.ndarray, boxes_xyxy: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        bright = np.repeat(embedding, len(boxes_xyxy) // len(embedding), axis=0) > 0.45
        x = np.arange(bright.shape[2])
        middle = (boxes_xyxy[:, 0] + boxes_xyxy[:, 2]) / 2
        right = (x > middle[:, None])[:, None]
        logits = np.where(bright, 1, -1) + np.where(right, 2.5, -2.5)
        return logits.astype(np.float32), bright.mean(axis=(1, 2)).astype(np.float32)


def test_an_embedding_is_cells_in_their_places_where_it_tells_blood() -> None:
    features = np.arange(16 * 2, dtype=np.float16).reshape(1, 16, 2)
    embedding = SliceEmbedding(slice_hu(), features)
    cells = NetworkPredictor(Sided(), "x", "x", {}, tells_blood=True).cells(embedding)
    assert cells is not None and cells.features.shape == (4, 4, 2)
    assert (cells.features[1, 2] == features[0, 6]).all()
    assert cells.frame.shape_yx == SHAPE
    assert NetworkPredictor(Sided(), "x", "x", {}).cells(embedding) is None


def test_a_second_look_is_the_mean_of_three() -> None:
    backend = Sided()
    predictor = NetworkPredictor(backend, "x", "x", {})
    embedding = predictor.embed(slice_hu())
    once = predictor.predict(embedding, [BLOOD, BLOOD], second_look=False)
    again = predictor.predict(embedding, [BLOOD, BLOOD], second_look=True)
    assert dice(once.masks[0], reference()) < 0.5  # the right half of the slice, blood or not
    # The two crops hold each other's sides in balance; 2 (1) - 1.5 for blood on the left, -2 (1) + 1.5 for brain.
    inside = crop_region(BLOOD, SHAPE).slices()
    for mask in again.masks:
        assert dice(mask[inside], reference()[inside]) > 0.97
    crop = backend.framing.frame(SHAPE, crop_region(BLOOD, SHAPE)).image(slice_hu()) > 0.45
    assert again.iou == pytest.approx((2 * crop.mean() + once.iou) / 3, abs=1e-3)


def test_a_propagation_may_look_again_by_a_model_that_does() -> None:
    predictor = NetworkPredictor(Sided(), "x", "x", {}, second_look=True)
    hu = np.stack([slice_hu(k) for k in range(2)]).astype(np.int16)
    volume = CTVolume(hu, phantoms.geometry([0.0, 5.0]), "two")
    found = propagate(predictor, volume, {0: [BLOOD]}, second_look=True, edge=False)
    expected = predictor.predict(predictor.embed(volume.hu_zyx[0]), [BLOOD], second_look=True).union
    assert (found.mask_zyx("x")[0] == expected).all() and expected.any()


def test_an_embedding_of_another_method_is_refused_in_a_sentence() -> None:
    threshold, network = load_predictor("threshold"), NetworkPredictor(Sided(), "x", "Net", {})
    for look in (False, True):
        with pytest.raises(
            InputError, match="has nothing of Net; make it with that method's embed"
        ):
            network.predict(threshold.embed(slice_hu()), [BLOOD], second_look=look)


@pytest.mark.slow
def test_half_precision_agrees_with_full_precision() -> None:
    from ichseg.methods.bases import load_litemedsam

    masks = []
    for precision in ("float32", "bfloat16"):
        network, hashes = load_litemedsam()
        backend = TorchBackend(network, device="cpu", precision=precision)
        predictor = NetworkPredictor(backend, "x", "x", hashes)
        masks.append(predictor.predict(predictor.embed(slice_hu()), [BLOOD]).union)
    assert dice(*masks) >= 0.995


def test_an_embedding_says_what_it_costs() -> None:
    embedding = embedding_of(load_predictor("litemedsam"))
    assert embedding.shape_yx == SHAPE
    assert embedding.nbytes == 2 * 256 * 64 * 64


@pytest.mark.parametrize(
    ("box", "shape", "region"),
    [
        (Box(100, 100, 140, 120), (512, 512), Box(60, 50, 180, 170)),
        (Box(0, 0, 40, 40), (512, 512), Box(0, 0, 120, 120)),
        (Box(490, 490, 512, 512), (512, 512), Box(446, 446, 512, 512)),
        (Box(10, 10, 15, 15), (512, 512), Box(0, 0, 64, 64)),
        (Box(0, 0, 500, 400), (512, 512), Box(0, 0, 512, 512)),
        (Box(0, 0, 90, 50), (60, 100), Box(0, 0, 100, 100)),
    ],
)
def test_a_crop_is_square_and_on_the_slice(box: Box, shape: tuple[int, int], region: Box) -> None:
    assert crop_region(box, shape, 3.0) == region


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(InputError, match="auto, cpu or cuda"):
        load_predictor("litemedsam", device="tpu")


def test_thresholding_is_strict_and_fills_holes() -> None:
    threshold = load_predictor("threshold")
    hu = np.full((20, 20), 45.0)
    hu[5:14, 5:14] = 60
    hu[8:11, 8:11] = 20
    mask = threshold.predict(threshold.embed(hu), [Box(2, 2, 18, 18)]).union
    expected = np.zeros((20, 20), bool)
    expected[5:14, 5:14] = True
    expected[[5, 5, 13, 13], [5, 13, 5, 13]] = False  # a 3 x 3 median rounds the corners off
    assert (mask == expected).all()
    outside = threshold.predict(threshold.embed(np.full((20, 20), 60.0)), [Box(2, 3, 8, 9)]).union
    assert outside.sum() == 36
