"""Pictures of slices: windowed HU, mask, boxes, orientation letters. numpy and pillow; no display.

Every picture is RGB uint8 [row, column, 3] in radiological orientation: the patient's right on the left,
anterior on top, as a slice [y, x] of a CTVolume lies already.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.marks.box import Box
from ichseg.methods.frame import BRAIN, Window
from ichseg.scan.volume import CTVolume

BoolArray = npt.NDArray[np.bool_]
RGBArray = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

MASK_COLOUR: Colour = (255, 64, 64)
BOX_COLOUR: Colour = (64, 200, 255)
TEXT_COLOUR: Colour = (235, 235, 235)

#: Between the tiles of a contact sheet, right of and below each.
GAP_PX, GAP_COLOUR = 2, (48, 48, 48)


def render_slice(
    volume: CTVolume,
    k: int,
    *,
    mask_yx: npt.ArrayLike | None = None,
    boxes: Sequence[Box] = (),
    window: Window = BRAIN,
    scale: float = 1.0,
    opacity: float = 0.25,
    outline: bool = True,
    letters: bool = True,
    caption: str = "",
    colours: Mapping[int, Colour] | None = None,
    box_colour: Colour = BOX_COLOUR,
) -> RGBArray:
    """One slice of a scan with its mask and boxes drawn over it.

    ``mask_yx`` is the slice's mask [y, x]; with ``colours`` it holds labels, each drawn in its own colour, and those
    without one are not drawn. ``boxes`` are in native pixels, drawn in ``box_colour``. ``scale`` is display pixels for
    each pixel of the slice along its finer side; where pixels are not square the other side is
    stretched, so that a circle in the patient is a circle in the picture. ``opacity`` is that of the mask's
    fill, 0 for none. The outline and the box are one display pixel wide, two from a scale of 2 on; the outline
    lies within the mask, the box's line within the box. ``letters`` adds R, L, A, P, the slice's number (from 1)
    and the window; ``caption`` is one line in a strip below the picture. Raises InputError for a slice,
    a mask, a scale or an opacity that does not fit.
    """
    if not 0 <= k < volume.shape_zyx[0]:
        raise InputError(
            f"The scan has slices 0 to {volume.shape_zyx[0] - 1}; got {k}; choose one of them."
        )
    if not 0 <= opacity <= 1:
        raise InputError(f"An opacity is from 0 to 1; got {opacity}; use e.g. 0.25.")
    rows, columns = _shown_size(volume, scale)
    grey = (window.apply(volume.hu_zyx[k]) * 255 + 0.5).astype(np.uint8)
    picture = np.repeat(_resized(grey, (rows, columns))[..., None], 3, axis=2)
    line_px = 2 if scale >= 2 else 1
    if mask_yx is not None:
        labels = np.asarray(mask_yx)
        drawn = {None: MASK_COLOUR} if colours is None else colours
        for label, colour in drawn.items():
            mask = labels if label is None else labels == label
            shown = _shown_mask(mask, volume, (rows, columns))
            _paint_mask(picture, shown, colour, opacity, outline, line_px)
    native = volume.shape_zyx[1:]
    for box in boxes:
        per_yx = (rows / native[0], columns / native[1])
        _paint_box(picture, box.clip(native), per_yx, line_px, box_colour)
    image = Image.fromarray(picture)
    if letters:
        _draw_letters(ImageDraw.Draw(image), (rows, columns), k, volume.shape_zyx[0], window)
    return np.asarray(_captioned(image, caption) if caption else image)


def contact_sheet(
    volume: CTVolume,
    mask_zyx: npt.ArrayLike | None = None,
    *,
    slices: Sequence[int] | None = None,
    columns: int = 6,
    tile_px: int = 256,
    window: Window = BRAIN,
    opacity: float = 0.25,
    caption: str = "",
) -> RGBArray:
    """Many slices on one sheet, in the order given (all, from foot to head), row by row.

    ``mask_zyx`` is the scan's mask [z, y, x]; ``tile_px`` is the longer side of a tile. Tiles carry letters
    and the slice's number; ``caption`` stands below the sheet.
    """
    chosen = range(volume.shape_zyx[0]) if slices is None else slices
    if not chosen or columns < 1:
        raise InputError(
            f"A contact sheet has at least one slice and one column; got {len(chosen)} slices in "
            f"{columns} columns; choose some."
        )
    scale = tile_px / max(_shown_size(volume, 1.0))
    masks = None if mask_zyx is None else np.asarray(mask_zyx)
    tiles = [
        render_slice(
            volume,
            k,
            mask_yx=None if masks is None else masks[k],
            window=window,
            scale=scale,
            opacity=opacity,
        )
        for k in chosen
    ]
    height, width = tiles[0].shape[0] + GAP_PX, tiles[0].shape[1] + GAP_PX
    used = min(columns, len(tiles))
    sheet = np.zeros((math.ceil(len(tiles) / used) * height, used * width, 3), dtype=np.uint8)
    for number, tile in enumerate(tiles):
        y, x = height * (number // used), width * (number % used)
        sheet[y : y + height, x : x + width] = GAP_COLOUR
        sheet[y : y + height - GAP_PX, x : x + width - GAP_PX] = tile
    return np.asarray(_captioned(Image.fromarray(sheet), caption)) if caption else sheet


def _shown_size(volume: CTVolume, scale: float) -> tuple[int, int]:
    """Rows and columns of the picture of a slice, its pixels made square."""
    if not (math.isfinite(scale) and 0 < scale <= 16):
        raise InputError(f"A picture's scale is above 0 and at most 16; got {scale}; use e.g. 2.")
    dy, dx = volume.geometry.spacing_yx_mm
    finer = min(dy, dx)
    _, rows, columns = volume.shape_zyx
    return max(1, round(rows * scale * dy / finer)), max(1, round(columns * scale * dx / finer))


def _resized(grey: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if grey.shape == shape:
        return grey
    smoother = Image.Resampling.BICUBIC  # widened to an area average where it shrinks
    return np.asarray(Image.fromarray(grey).resize((shape[1], shape[0]), smoother))


def _shown_mask(mask_yx: npt.ArrayLike, volume: CTVolume, shape: tuple[int, int]) -> BoolArray:
    """The mask at display size: each display pixel takes the native pixel under its centre."""
    mask: BoolArray = np.asarray(mask_yx) != 0
    native = volume.shape_zyx[1:]
    if mask.shape != native:
        raise InputError(
            f"A slice's mask has the slice's shape {native}; got {mask.shape}; pass the native mask."
        )
    ys, xs = (
        ((np.arange(display) + 0.5) * (size / display)).astype(int)
        for size, display in zip(native, shape, strict=True)
    )
    shown: BoolArray = mask[np.ix_(ys, xs)]
    return shown


def _paint_mask(
    picture: RGBArray,
    mask: BoolArray,
    colour: Colour,
    opacity: float,
    outline: bool,
    line_px: int,
) -> None:
    """Blend the mask's colour into a picture in place, and draw its edge at full strength."""
    tint = np.array(colour, dtype=np.float32) * opacity
    picture[mask] = (picture[mask] * (1 - opacity) + tint + 0.5).astype(np.uint8)
    if outline:
        inner = mask
        for _ in range(line_px):
            inner = _eroded(inner)
        picture[mask & ~inner] = colour


def _eroded(mask: BoolArray) -> BoolArray:
    """The mask without the pixels that touch its outside by a side; the picture's border is outside."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _paint_box(
    picture: RGBArray, box: Box, per_yx: tuple[float, float], line_px: int, colour: Colour
) -> None:
    """Draw a box's frame in place: its outermost display pixels are the outermost that the box covers."""
    top, bottom = round(box.y0 * per_yx[0]), round(box.y1 * per_yx[0])
    left, right = round(box.x0 * per_yx[1]), round(box.x1 * per_yx[1])
    frame = np.zeros(picture.shape[:2], dtype=bool)
    frame[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    frame[top + line_px : bottom - line_px, left + line_px : right - line_px] = False
    picture[frame] = colour


def with_sides(rgb: RGBArray) -> RGBArray:
    """A picture of a slice, whole or cut, with R, L, A and P at its sides, large enough for print."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    rows, columns = rgb.shape[:2]
    size = max(9, round(min(rows, columns) / 14))
    _write(ImageDraw.Draw(image), _sides(rows, columns, size // 3), size)
    return np.asarray(image)


def _draw_letters(
    draw: ImageDraw.ImageDraw, shape: tuple[int, int], k: int, count: int, window: Window
) -> None:
    rows, columns = shape
    size = max(9, round(min(rows, columns) / 28))
    pad = size // 2
    corners = (
        (f"{k + 1} / {count}", (pad, pad), "lt"),
        (f"W {window.width:g} L {window.level:g}", (pad, rows - pad), "lb"),
    )
    _write(draw, (*_sides(rows, columns, pad), *corners), size)


def _sides(rows: int, columns: int, pad: int) -> tuple[tuple[str, tuple[float, float], str], ...]:
    return (
        ("R", (pad, rows / 2), "lm"),
        ("L", (columns - pad, rows / 2), "rm"),
        ("A", (columns / 2, pad), "mt"),
        ("P", (columns / 2, rows - pad), "mb"),
    )


def _write(
    draw: ImageDraw.ImageDraw,
    texts: Iterable[tuple[str, tuple[float, float], str]],
    size: int,
) -> None:
    """Write texts at places x, y of a picture, each with its anchor, ``size`` pixels high."""
    for text, xy, anchor in texts:
        draw.text(
            xy,
            text,
            fill=TEXT_COLOUR,
            font=_font(size),
            anchor=anchor,
            stroke_width=max(1, size // 12),
            stroke_fill=(0, 0, 0),
        )


def _captioned(image: Image.Image, caption: str) -> Image.Image:
    """The picture with text on a strip below it; a line that is too long for the width goes on below."""
    size = min(24, max(9, image.width // 40))
    lines = [
        part for line in caption.split("\n") for part in _wrapped(line, size, image.width - size)
    ]
    step = round(1.4 * size)
    strip = 2 * size + step * (len(lines) - 1)
    out = Image.new("RGB", (image.width, image.height + strip))
    out.paste(image, (0, 0))
    for number, line in enumerate(lines):
        ImageDraw.Draw(out).text(
            (image.width / 2, image.height + size + step * number),
            line,
            fill=TEXT_COLOUR,
            font=_font(size),
            anchor="mm",
        )
    return out


def _wrapped(line: str, size: int, width_px: float) -> list[str]:
    """A line of text broken between words so that each part fits; a single word is never broken."""
    parts = [""]
    for word in line.split():
        longer = f"{parts[-1]} {word}".strip()
        if parts[-1] and _font(size).getlength(longer) > width_px:
            parts.append(word)
        else:
            parts[-1] = longer
    return parts


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own face, so that a picture is the same on every machine."""
    return ImageFont.load_default(size)


def slice_png(
    volume: CTVolume,
    k: int,
    *,
    mask_yx: npt.ArrayLike | None = None,
    boxes: Sequence[Box] = (),
    window: Window = BRAIN,
    scale: float = 2.0,
    opacity: float = 0.25,
    caption: str = "",
    colours: Mapping[int, Colour] | None = None,
    box_colour: Colour = BOX_COLOUR,
) -> bytes:
    """A picture of slice k with mask and boxes (``render_slice``) as PNG.

    Below it stand ``caption``, each of the scan's warnings, and the notice, a line each; they are in its text, too.
    """
    lines = [*([caption] if caption else []), *volume.warned, NOTICE]
    rgb = render_slice(
        volume,
        k,
        mask_yx=mask_yx,
        boxes=boxes,
        window=window,
        scale=scale,
        opacity=opacity,
        caption="\n".join(lines),
        colours=colours,
        box_colour=box_colour,
    )
    return png_bytes(Image.fromarray(rgb), volume.warnings)


def png_bytes(image: Image.Image, warnings: Sequence[str] = ()) -> bytes:
    """A picture as PNG, with the notice and the scan's warnings in its text."""
    text = PngInfo()
    text.add_text("Disclaimer", NOTICE)
    if warnings:
        text.add_itxt("Warning", " ".join(warnings))
    content = io.BytesIO()
    image.save(content, "PNG", pnginfo=text, optimize=True)
    return content.getvalue()


def jpeg_bytes(rgb: RGBArray, quality: int = 85) -> bytes:
    """A picture [row, column, 3] as JPEG, with the notice in its comment: small, for a page of many."""
    content = io.BytesIO()
    Image.fromarray(rgb).save(content, "JPEG", quality=quality, optimize=True, comment=NOTICE)
    return content.getvalue()
