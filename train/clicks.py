"""Whether a click after a box helps: python -m train clicks --data runs/data --run weights/folds/litemedsam-rslora

After the box's mask the simulated person clicks in the middle of the largest piece that is missed (a positive click) or
of the largest that is too much (a negative one), whichever is larger; box and clicks are then decoded together, as SAM
has it. On the whole slice, one box around all blood, patients that the adapter never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.marks.box import Box
from ichseg.methods.catalogue import load_litemedsam, merge_adapter
from ichseg.methods.frame import SliceFrame
from ichseg.methods.network import LiteMedSAM
from train.dataset import NativeSlice
from train.metrics import dice

Mask = npt.NDArray[np.bool_]

#: Clicks after the box.
CLICKS = 3


@dataclass(frozen=True)
class Row:
    """One slice: the method, and Dice with the box alone, then with one click more each time."""

    method: str
    patient: str
    slice: int
    first: str
    """What the first click was: "positive" or "negative"."""
    dice: tuple[float, ...]


def middle(region: Mask) -> tuple[tuple[int, int] | None, int]:
    """The innermost pixel (y, x) of a region's largest 8-connected piece, and its pixels; None in an empty one."""
    labels, count = ndimage.label(region, EIGHT_CONNECTED)
    if not count:
        return None, 0
    areas = np.bincount(labels.ravel())[1:]
    piece = np.pad(labels == 1 + areas.argmax(), 1)
    depth = ndimage.distance_transform_edt(piece)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return (int(y), int(x)), int(areas.max())


def measure(
    network: LiteMedSAM,
    method: str,
    slices: Iterable[NativeSlice],
    on_slice: Callable[[], object] = lambda: None,
) -> list[Row]:
    """Dice of each slice with its box and up to CLICKS clicks; where nothing is wrong any more, the last Dice stays."""
    rows = []
    for item in slices:
        frame = network.frame(item.mask.shape)
        image = torch.from_numpy(frame.image(item.slice_hu, network.window(item.slice_hu)))[None]
        with torch.inference_mode():
            features = network.body(network.stem(network.pixels(image, [frame.content_yx])))
        found, kinds = [], list[str]()
        points = list[tuple[int, int]]()
        for _ in range(CLICKS + 1):
            mask = _decode(network, features, frame, item.slice_box, points, kinds)
            found.append(dice(mask, item.mask))
            (missed, missed_px), (extra, extra_px) = (
                middle(item.mask & ~mask),
                middle(mask & ~item.mask),
            )
            at, kind = (missed, "positive") if missed_px >= extra_px else (extra, "negative")
            if at is None:
                break
            points.append(at)
            kinds.append(kind)
        found += found[-1:] * (CLICKS + 1 - len(found))
        first = kinds[0] if kinds else ""
        rows.append(Row(method, item.patient_id, item.slice_index, first, tuple(found)))
        on_slice()
    return rows


def _decode(
    network: LiteMedSAM,
    features: torch.Tensor,
    frame: SliceFrame,
    box: Box,
    points_yx: list[tuple[int, int]],
    kinds: list[str],
) -> Mask:
    """The mask [y, x] for a box and clicks together."""
    prompts = network.prompt_encoder
    with torch.inference_mode():
        tokens = prompts.boxes(torch.from_numpy(frame.box(box))[None])
        if points_yx:
            places = [frame.box(Box(x, y, x + 1, y + 1))[:2] for y, x in points_yx]
            labels = torch.tensor([[int(kind == "positive") for kind in kinds]])
            clicks = prompts.points(torch.from_numpy(np.stack(places))[None], labels)
            tokens = torch.cat([clicks, tokens], dim=1)
        logits, _ = network.mask_decoder(features, prompts.grid_encoding(), tokens, prompts.dense())
    return network.mask(frame, logits[0, 0].float().numpy())


def networks(adapter: Path) -> Iterable[tuple[str, LiteMedSAM]]:
    """The un-tuned network, and the one with an adapter merged into it."""
    yield "litemedsam", load_litemedsam()[0]
    tuned = load_litemedsam()[0]
    merge_adapter(tuned, adapter)
    yield "with the adapter", tuned


def table(rows: Iterable[Row]) -> str:
    """Mean Dice a slice by method, by what the first click was, and by the number of clicks, as Markdown."""
    rows = list(rows)
    lines = [
        "| method | first click | slices | box alone | "
        + " | ".join(f"{n} click{'s' if n > 1 else ''}" for n in range(1, CLICKS + 1))
        + " |",
        "|---" * (4 + CLICKS) + "|",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        for first in ("", "positive", "negative"):
            chosen = [row.dice for row in rows if row.method == method and first in ("", row.first)]
            if chosen:
                means = " | ".join(f"{value:.3f}" for value in np.mean(chosen, axis=0))
                lines.append(f"| {method} | {first or 'either'} | {len(chosen)} | {means} |")
    return "\n".join(lines)
