"""Pages that ask a controller, as the viewer's script does, and models whose answers are known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import Box
from ichseg.methods.predictor import SliceMasks
from ichseg.page.controller import Controller
from ichseg.scan.volume import CTVolume
from tests import phantoms

T = TypeVar("T")
SLICES, ROWS, COLUMNS = 6, 24, 32


def awaited(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives, in a thread of its own: a browser test before may have left a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class Embedding:
    """What the fake model knows of a slice: its values, at a price of 100 bytes."""

    nbytes = 100

    def __init__(self, slice_hu: npt.NDArray[np.number]) -> None:
        self.slice_hu = slice_hu
        self.shape_yx = slice_hu.shape


class BoxModel:
    """A model whose mask is the box itself, and which counts what it is asked for."""

    weights_sha256: dict[str, str] = {}  # noqa: RUF012 - shared and never written to
    second_look = False
    settings: dict[str, bool] = {}  # noqa: RUF012
    computed_by = "nothing"
    packages = ()

    def __init__(self, name: str, seconds: float = 0.0) -> None:
        self.name, self.seconds = name, seconds
        self.embedded: list[float] = []
        self.predicted = 0

    def embed(self, slice_hu: npt.NDArray[np.number]) -> Embedding:
        time.sleep(self.seconds)
        self.embedded.append(float(slice_hu[0, 0]))
        return Embedding(slice_hu)

    def cells(self, embedding: Embedding) -> None:
        """It has none: propagation goes by the rule's thresholds."""

    def predict(
        self, embedding: Embedding, boxes: list[Box], *, second_look: bool | None = None
    ) -> SliceMasks:
        self.predicted += len(boxes)
        masks = np.zeros((len(boxes), *embedding.slice_hu.shape), dtype=bool)
        for mask, box in zip(masks, boxes, strict=True):
            mask[box.slices()] = True
        return SliceMasks(masks, np.full(len(boxes), np.nan, dtype=np.float32))


class BrightModel(BoxModel):
    """A model that finds what is above 45 HU in the box."""

    def predict(
        self, embedding: Embedding, boxes: list[Box], *, second_look: bool | None = None
    ) -> SliceMasks:
        found = super().predict(embedding, boxes)
        return SliceMasks(found.masks & (np.asarray(embedding.slice_hu) > 45), found.iou)


class CloserModel(BoxModel):
    """A model whose refinement sees the box's first row only, and which counts its looks."""

    second_look = True

    def __init__(self, name: str, seconds: float = 0.0) -> None:
        super().__init__(name, seconds)
        self.looks: list[tuple[float, Box]] = []

    def predict(
        self, embedding: Embedding, boxes: list[Box], *, second_look: bool | None = None
    ) -> SliceMasks:
        found = super().predict(embedding, boxes)
        if second_look is False:
            return found
        time.sleep(self.seconds)
        for mask, box in zip(found.masks, boxes, strict=True):
            self.looks.append((float(embedding.slice_hu[0, 0]), box))
            mask[int(box.y0) + 1 :] = False
        return found


def numbered_scan(start: int = 0) -> CTVolume:
    """A scan whose slice k holds the value start + k."""
    scan = phantoms.scan(tuple(5 * np.arange(SLICES)), (ROWS, COLUMNS))
    scan.hu_zyx[:] = start + np.arange(SLICES)[:, None, None]
    return scan


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.005)


class Page:
    """A page that asks a controller, as the viewer's script does."""

    def __init__(self, controller: Controller, name: str) -> None:
        self.controller, self.name, self.last, self.case = controller, name, 0, None

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        self.last += 1
        message = {"case": self.case, "slice": 0, "ops": [{"op": op, "id": self.last, **fields}]}
        reply = self.controller.answer(self.name, message)
        assert reply["done"] == self.last
        self.case = reply.get("case")
        return reply


def a_file(folder: Path, name: str = "scan.nii") -> dict[str, str]:
    """An uploaded file, as the page names it."""
    path = folder / name
    path.write_bytes(b"")
    return {"path": str(path), "name": name}


def area_ml(pixels: int) -> float:
    return pixels * 0.5 * 0.5 * 5.0 / 1000


def rested(controller: Controller, page: Page, k: int) -> dict[str, Any]:
    """What a page gets that asks in passing until nothing of slice k is rough."""
    for _ in range(20):
        reply = controller.aside(page.name, {"case": page.case, "aside": {"slice": k}})
        if not reply["slices"][str(k)]["rough"]:
            return reply
    raise AssertionError("it was never looked at again")
