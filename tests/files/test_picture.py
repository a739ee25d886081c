"""Pictures, pixel by pixel: window, aspect, orientation, mask, box, letters, contact sheet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import phantoms
import pytest
from PIL import ImageDraw
from scipy import ndimage

from ichseg.errors import InputError
from ichseg.files.picture import (
    BOX_COLOUR,
    GAP_COLOUR,
    GAP_PX,
    MASK_COLOUR,
    contact_sheet,
    render_slice,
)
from ichseg.marks.box import Box
from ichseg.methods.frame import BRAIN, WINDOWS, Window
from ichseg.scan.volume import CTVolume

SHAPE_YX = (40, 50)


def scan(spacing_yx_mm: tuple[float, float] = (0.5, 0.5)) -> CTVolume:
    return phantoms.scan((0, 5, 10), SHAPE_YX, spacing_yx_mm, hu=0)


def with_hu(volume: CTVolume, hu_zyx: npt.NDArray[np.int16]) -> CTVolume:
    return CTVolume(hu_zyx, volume.geometry, "phantom")


def blob() -> npt.NDArray[np.bool_]:
    mask = phantoms.ellipsoid((1, *SHAPE_YX), (1, 1, 1), (0, 20, 25), (1, 12, 17))[0]
    mask[20, 25] = False  # a hole
    return mask


def is_colour(
    picture: npt.NDArray[np.uint8], colour: tuple[int, int, int]
) -> npt.NDArray[np.bool_]:
    return (picture == colour).all(axis=-1)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, float, float]]]:
    """Every text that is drawn, with the place it is anchored to."""
    texts: list[tuple[str, float, float]] = []
    draw_text = ImageDraw.ImageDraw.text

    def spy(self: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, **how: object) -> None:
        texts.append((text, *xy))
        draw_text(self, xy, text, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    yield texts


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_the_window_is_black_to_white(window: Window) -> None:
    volume = scan()
    hu_zyx = volume.hu_zyx.copy()
    hu_zyx[1, 0, :5] = (-1000, window.low, window.level, window.high, 3000)
    picture = render_slice(with_hu(volume, hu_zyx), 1, window=window, letters=False)
    assert picture.dtype == np.uint8 and picture.shape == (*SHAPE_YX, 3)
    assert picture[0, :5].tolist() == [[grey] * 3 for grey in (0, 0, 128, 255, 255)]


def test_the_slice_lies_as_it_is_with_right_on_the_left_and_anterior_on_top() -> None:
    volume = scan()
    hu_zyx = volume.hu_zyx.copy()
    hu_zyx[0, 2, 3] = 1000
    picture = render_slice(with_hu(volume, hu_zyx), 0, letters=False)
    assert np.argwhere(picture[..., 0]).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("spacing_yx_mm", "scale", "shown"),
    [
        ((0.5, 0.5), 1, (40, 50)),
        ((0.5, 0.5), 2, (80, 100)),
        ((1.0, 0.5), 1, (80, 50)),
        ((0.4, 0.6), 1, (40, 75)),
        ((0.4, 0.6), 2, (80, 150)),
        ((0.5, 0.5), 0.5, (20, 25)),
    ],
)
def test_pixels_are_made_square(
    spacing_yx_mm: tuple[float, float], scale: float, shown: tuple[int, int]
) -> None:
    assert render_slice(scan(spacing_yx_mm), 0, scale=scale).shape == (*shown, 3)


def test_a_circle_in_the_patient_is_a_circle_in_the_picture() -> None:
    spacing_yx_mm = (0.8, 0.5)
    disc = phantoms.ellipsoid((1, *SHAPE_YX), (1, *spacing_yx_mm), (0, 16, 12.5), (1, 10, 10))[0]
    picture = render_slice(scan(spacing_yx_mm), 0, mask_yx=disc, opacity=1, letters=False, scale=2)
    rows, columns = np.nonzero(is_colour(picture, MASK_COLOUR))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=4)  # a slice's pixel is 3.2 high here


def test_at_native_size_the_colour_lies_on_the_masks_pixels_and_on_no_other() -> None:
    bare = render_slice(scan(), 0, letters=False)
    covered = render_slice(scan(), 0, mask_yx=blob(), letters=False)
    np.testing.assert_array_equal((covered != bare).any(axis=-1), blob())


@pytest.mark.parametrize(("scale", "line_px"), [(1, 1), (2, 2), (3, 2)])
def test_the_outline_is_crisp_and_within_the_mask(scale: int, line_px: int) -> None:
    picture = render_slice(scan(), 0, mask_yx=blob(), opacity=0, scale=scale, letters=False)
    shown = np.kron(blob(), np.ones((scale, scale), dtype=bool))
    edge = shown & ~ndimage.binary_erosion(shown, iterations=line_px)
    np.testing.assert_array_equal(is_colour(picture, MASK_COLOUR), edge)
    assert not picture[~edge].any(), "nothing is blurred: all else is the black slice"


def test_a_mask_that_touches_the_border_has_an_edge_there() -> None:
    full = np.ones(SHAPE_YX, dtype=bool)
    edge = is_colour(render_slice(scan(), 0, mask_yx=full, opacity=0, letters=False), MASK_COLOUR)
    assert edge[0].all() and edge[:, -1].all() and not edge[1:-1, 1:-1].any()


@pytest.mark.parametrize(
    ("opacity", "expected"), [(0.0, [0, 0, 0]), (0.5, [128, 32, 32]), (1.0, list(MASK_COLOUR))]
)
def test_the_fill_is_blended_by_its_opacity(opacity: float, expected: list[int]) -> None:
    picture = render_slice(
        scan(), 0, mask_yx=blob(), opacity=opacity, outline=False, letters=False, window=BRAIN
    )
    assert picture[15, 25].tolist() == expected
    assert picture[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("scale", "line_px"), [(1, 1), (3, 2)])
def test_a_box_encloses_its_pixels(scale: int, line_px: int) -> None:
    picture = render_slice(scan(), 0, boxes=[Box(10, 5, 30, 25)], scale=scale, letters=False)
    frame = np.zeros((40 * scale, 50 * scale), dtype=bool)
    frame[5 * scale : 25 * scale, 10 * scale : 30 * scale] = True
    frame[
        5 * scale + line_px : 25 * scale - line_px, 10 * scale + line_px : 30 * scale - line_px
    ] = 0
    np.testing.assert_array_equal(is_colour(picture, BOX_COLOUR), frame)


def test_the_smallest_box_is_still_seen() -> None:
    picture = render_slice(scan(), 0, boxes=[Box(10.2, 5.2, 10.4, 5.4)], letters=False)
    assert np.argwhere(is_colour(picture, BOX_COLOUR)).tolist() == [[5, 10]]


def test_letters_say_sides_number_and_window(written: list[tuple[str, float, float]]) -> None:
    render_slice(scan(), 1, window=Window(70, 65), scale=4)
    place = {text: (x / 200, y / 160) for text, x, y in written}
    assert set(place) == {"R", "L", "A", "P", "2 / 3", "W 70 L 65"}
    assert place["R"][0] < 0.1 and place["L"][0] > 0.9
    assert place["A"][1] < 0.1 and place["P"][1] > 0.9
    assert place["R"][1] == place["L"][1] == 0.5


def test_letters_keep_to_the_rim() -> None:
    changed = render_slice(scan(), 1, scale=8).any(axis=-1)
    assert changed.any()
    assert not changed[64:-64, 64:-64].any()


def test_without_letters_nothing_is_written(written: list[tuple[str, float, float]]) -> None:
    render_slice(scan(), 1, letters=False)
    assert written == []


def test_a_caption_stands_whole_on_a_strip_below(written: list[tuple[str, float, float]]) -> None:
    text = "Research software. Not a medical device. Not for clinical use."
    bare = render_slice(scan(), 0, scale=8, letters=False)
    picture = render_slice(scan(), 0, scale=8, letters=False, caption=text)
    assert [line for line, *_ in written] == [text]
    np.testing.assert_array_equal(picture[: len(bare)], bare)
    strip = picture[len(bare) :]
    assert strip.any()
    rim = np.concatenate([strip[0], strip[-1], strip[:, 0], strip[:, -1]])
    assert not rim.any(), "no letter is cut off"


def test_a_contact_sheet_holds_the_tiles_in_order() -> None:
    volume = scan()
    hu_zyx = volume.hu_zyx.copy()
    hu_zyx[:] = np.array([[[10]], [[40]], [[70]]])
    volume = with_hu(volume, hu_zyx)
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    mask[2] = blob()
    sheet = contact_sheet(volume, mask, columns=2, tile_px=50)
    tiles = [render_slice(volume, k, mask_yx=mask[k]) for k in range(3)]
    height, width = 40 + GAP_PX, 50 + GAP_PX
    assert sheet.shape == (2 * height, 2 * width, 3)
    np.testing.assert_array_equal(sheet[:40, :50], tiles[0])
    np.testing.assert_array_equal(sheet[:40, width : width + 50], tiles[1])
    np.testing.assert_array_equal(sheet[height : height + 40, :50], tiles[2])
    assert not sheet[height:, width:].any(), "an unused place is black"
    assert is_colour(sheet[:height, 50:width], GAP_COLOUR).all()


def test_a_contact_sheet_of_chosen_slices_is_no_wider_than_they_are(
    written: list[tuple[str, float, float]],
) -> None:
    sheet = contact_sheet(scan((1.0, 0.5)), slices=[2, 0], columns=6, tile_px=160, caption="x")
    assert sheet.shape[1] == 2 * (100 + GAP_PX)
    assert [text for text, *_ in written if "/" in text] == ["3 / 3", "1 / 3"]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"k": 3}, "slices 0 to 2; got 3; choose"),
        ({"k": -1}, "slices 0 to 2; got -1; choose"),
        ({"k": 0, "scale": 0}, "at most 16; got 0; use"),
        ({"k": 0, "scale": float("nan")}, "at most 16; got nan; use"),
        ({"k": 0, "opacity": 1.5}, "from 0 to 1; got 1.5; use"),
        ({"k": 0, "mask_yx": np.zeros((50, 40))}, r"\(40, 50\); got \(50, 40\); pass"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    how: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        render_slice(scan(), **how)  # type: ignore[arg-type]


def test_an_empty_contact_sheet_is_refused() -> None:
    with pytest.raises(InputError, match="got 0 slices"):
        contact_sheet(scan(), slices=[])


def test_labels_are_drawn_each_in_its_own_colour() -> None:
    volume = phantoms.scan(shape_yx=(20, 24))
    labels = np.zeros((20, 24), dtype=np.uint8)
    labels[2:8, 2:8], labels[2:8, 8:14], labels[12:16, 2:6] = 1, 5, 3
    colours = {1: (200, 0, 0), 5: (0, 0, 200)}
    bare = render_slice(volume, 1, letters=False)
    drawn = render_slice(volume, 1, mask_yx=labels, colours=colours, opacity=0, letters=False)
    for label, colour in colours.items():
        inside = labels == label
        edge = np.argwhere((drawn == colour).all(axis=-1))
        assert len(edge) == 20  # the rim of 6 x 6 pixels
        assert inside[tuple(edge.T)].all()
    np.testing.assert_array_equal(drawn[labels == 3], bare[labels == 3])
