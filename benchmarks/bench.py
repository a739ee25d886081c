"""Speed and memory here, each beside the plain way in the same run: python benchmarks/bench.py [--write]

Prints one table; --write puts it into RESULTS.md, too. It takes some minutes, and wants the machine for itself. The
plain way is reference.py's. Nothing leaves the machine: the page is served to a browser on the loopback device.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from benchmarks.cases import ct_ich_slices  # noqa: E402
from benchmarks.latency import find_chromium, page_rows, ps_of  # noqa: E402
from benchmarks.reference import Reference  # noqa: E402
from benchmarks.table import Row, in_turn, machine, markdown, write  # noqa: E402
from benchmarks.throughput import throughput_rows  # noqa: E402
from ichseg.files.nifti_mask import read_mask  # noqa: E402
from ichseg.marks.box import Box, box_from_mask  # noqa: E402
from ichseg.marks.document import Segmentation  # noqa: E402
from ichseg.measures.agreement import compare  # noqa: E402
from ichseg.methods import backends  # noqa: E402
from ichseg.methods.catalogue import default_baseline, default_model, load_predictor  # noqa: E402
from ichseg.methods.predictor import NetworkPredictor, Predictor, SliceEmbedding  # noqa: E402
from ichseg.methods.propagation import propagate  # noqa: E402
from ichseg.page.controller import Controller  # noqa: E402
from ichseg.page.embeddings import Embeddings, Key  # noqa: E402
from ichseg.sample import sample_paths  # noqa: E402
from ichseg.scan.read import read_volume  # noqa: E402
from ichseg.scan.slabs import SliceOrSlab  # noqa: E402
from ichseg.scan.volume import CTVolume  # noqa: E402

#: The plain way is timed on so many slices of a scan, and the whole is worked out from them.
PLAIN_SLICES = 4
USERS = (1, 4, 16)
BOXES_A_USER = 6
SESSIONS = (1, 8, 64)
BOXES = (1, 8, 64)
SLICES = (10, 40, 400)
AGREEMENT_SLICES = 10
THROUGHPUT_SCANS = 12


class Sample:
    """The sample scan, its reference mask, and a box around the blood of the slice with most of it."""

    def __init__(self) -> None:
        scan, reference = sample_paths()
        self.volume = read_volume(scan)
        self.reference_zyx = read_mask(reference, self.volume) != 0
        self.k = int(self.reference_zyx.sum(axis=(1, 2)).argmax())
        box = box_from_mask(self.reference_zyx[self.k], margin_px=3)
        assert box is not None
        self.box: Box = box
        self.slice_hu = self.volume.hu_zyx[self.k]

    def fresh_slice(self, run: int) -> npt.NDArray[np.number]:
        """The slice as nobody has seen it, so that nothing is remembered of it."""
        changed = self.slice_hu.copy()
        changed[run % 64, run // 64 % 64] += 200
        return changed


class Counter:
    """Numbers that never come again."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> int:
        self.last += 1
        return self.last


def dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0


def agreements(
    predictor: Predictor, plain: Reference, sample: Sample, *, second_look: bool = False
) -> list[float]:
    """Dice of each box's mask with the plain way's, on real slices where they are here, else on the sample's."""
    real = ct_ich_slices(ROOT.parent / "shared" / "data", AGREEMENT_SLICES)
    cases = [(one.slice_hu, one.boxes) for one in real]
    if not cases:
        boxed = [
            (k, box_from_mask(mask, margin_px=3)) for k, mask in enumerate(sample.reference_zyx)
        ]
        cases = [(sample.volume.hu_zyx[k], [box]) for k, box in boxed if box is not None]
    found = []
    for slice_hu, boxes in cases:
        here, there = (
            one.predict(one.embed(slice_hu), boxes, second_look=second_look).masks
            for one in (predictor, plain)
        )
        found += [dice(a, b) for a, b in zip(here, there, strict=True)]
    return found


def encoder_rows(sample: Sample, runs: int) -> list[Row]:
    """A slice encoded, by each back end; and by both models of the page, which share a part."""
    names = [default_model(), default_baseline()]
    plain = {name: Reference(name, keeps=True) for name in names}
    kinds = ["openvino", "torch"] if backends.has_openvino() else ["torch"]
    here = {
        f"{name}, {kind}": load_predictor(name, "cpu", kind) for name in names for kind in kinds
    }
    count = Counter()

    def fresh(one: Predictor) -> Callable[[], object]:
        return lambda: one.embed(sample.fresh_slice(count()))

    works: dict[str, Callable[[], object]] = {
        f"plain {name}": partial(one.embed, sample.slice_hu) for name, one in plain.items()
    }
    works |= {what: fresh(one) for what, one in here.items()}

    def pair() -> None:
        changed = sample.fresh_slice(count())
        for name in names:
            load_predictor(name, "cpu").embed(changed)

    works["both"] = pair
    times = in_turn(works, runs)
    rows = []
    for what, predictor in here.items():
        assert isinstance(predictor, NetworkPredictor)
        name = predictor.name
        rows.append(
            Row.of(
                f"embed a slice: {name}, {predictor.backend.title}",
                times[what],
                "ms",
                "4 x" if what == f"{names[0]}, {kinds[0]}" else "",
                plain=times[f"plain {name}"],
                dice=agreements(predictor, plain[name], sample),
            )
        )
    looked = load_predictor(names[0], "cpu")
    rows.append(
        Row.of(
            "embed a slice for both panes",
            times["both"],
            "ms",
            plain=[sum(pair) for pair in zip(*(times[f"plain {n}"] for n in names), strict=True)],
            dice=agreements(looked, plain[names[0]], sample, second_look=True),
        )._replace(what="embed a slice for both panes; Dice: the default's refinement")
    )
    return rows


def decoder_rows(sample: Sample, runs: int) -> list[Row]:
    """A box to its mask at native size on a slice that is embedded, and how that grows with the boxes."""
    names = [default_model(), default_baseline()]
    plain = [Reference(name, keeps=True) for name in names]
    ready = [load_predictor(name, "cpu") for name in names]
    torch_one = load_predictor(names[0], "cpu", "torch")
    embedded = {id(one): one.embed(sample.slice_hu) for one in [*plain, *ready, torch_one]}
    boxes = [sample.box.grow(1 + i % 8, sample.slice_hu.shape) for i in range(max(BOXES))]
    boxes = [Box(b.x0 - i // 8, b.y0, b.x1, b.y1) for i, b in enumerate(boxes)]

    def ask(one: Predictor, count: int = 1) -> Callable[[], object]:
        return lambda: one.predict(embedded[id(one)], boxes[:count], second_look=False)

    works = {
        "plain": ask(plain[0]),
        "here": ask(ready[0]),
        "torch": ask(torch_one),
        "plain both": lambda: [ask(one)() for one in plain],
        "both": lambda: [ask(one)() for one in ready],
        "eight": ask(ready[0], 8),
    }
    times = in_turn(works, runs)
    many = in_turn({str(count): ask(ready[0], count) for count in BOXES}, 2)
    return [
        Row.of("box to mask, slice embedded", times["here"], "ms", "3 x", plain=times["plain"]),
        Row.of("the same in torch", times["torch"], "ms", plain=times["plain"]),
        Row.of(
            "box to both panes' masks, slice embedded",
            times["both"],
            "ms",
            "3 x, < 80 ms",
            plain=times["plain both"],
        ),
        Row.of(
            "8 boxes to masks, slice embedded",
            times["eight"],
            "ms",
            plain=[8 * ms for ms in times["plain"]],
        ),
        *(Row.of(f"growth: {n} boxes on a slice", many[str(n)], "ms") for n in BOXES),
    ]


def scan_rows(sample: Sample) -> list[Row]:
    """Whole scans embedded, of 10 to 400 slices, as the page's store does it."""
    name = default_model()
    plain, count = Reference(name, keeps=True), Counter()
    start = time.perf_counter()
    for _ in range(PLAIN_SLICES):
        plain.embed(sample.slice_hu)
    plain_seconds = (time.perf_counter() - start) / PLAIN_SLICES
    rows = []
    for slices in SLICES:
        store = Embeddings(lambda name: load_predictor(name, "cpu"))
        store.admit("scan")
        start = time.perf_counter()
        for k in range(slices):
            store.get(Key("scan", name, k), sample.fresh_slice(count()))
        seconds = time.perf_counter() - start
        rows.append(
            Row(
                f"{'a' if slices == 40 else 'growth: a'} {slices}-slice scan embedded, "
                f"{store.nbytes / 2**20:,.0f} MB kept",
                seconds,
                "s",
                plain=plain_seconds * slices,
            )
        )
    return rows


def hematoma_rows(sample: Sample) -> list[Row]:
    """From one box to the whole hematoma, once each way: with nothing known of the other slices, and as the page
    does it once its background has embedded them.
    """
    name, volume = default_model(), sample.volume
    prompts = {sample.k: [sample.box]}
    here = load_predictor(name, "cpu")
    kept: dict[SliceOrSlab, SliceEmbedding] = {
        k: here.embed(slice_hu) for k, slice_hu in enumerate(volume.hu_zyx)
    }

    def timed(follow: Callable[[], Segmentation]) -> tuple[float, npt.NDArray[np.bool_]]:
        start = time.perf_counter()
        found = follow().mask_zyx(name)
        return time.perf_counter() - start, found

    ways = {
        "nothing embedded": timed(lambda: propagate(here, volume, prompts)),
        "slices embedded": timed(lambda: propagate(here, volume, prompts, embed=kept.__getitem__)),
    }
    plain_seconds, plain = timed(lambda: propagate(Reference(name, keeps=False), volume, prompts))
    return [
        Row(
            f"one box to the whole hematoma, {int(found.any(axis=(1, 2)).sum())} slices, {way}",
            seconds,
            "s",
            "8 x",
            plain=plain_seconds,
            dice=[compare(found, plain, volume).dice],
        )
        for way, (seconds, found) in ways.items()
    ]


# Memory, each in a process of its own


def _peak_mb(kind: str) -> float:
    """Peak memory of a process that answers a box by both models of the page."""
    sample = Sample()
    for name in (default_model(), default_baseline()):
        one: Predictor = (
            Reference(name, keeps=True) if kind == "plain" else load_predictor(name, "cpu", kind)
        )
        one.predict(one.embed(sample.slice_hu), [sample.box], second_look=False)
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage counts what the process that started this one had
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _sessions_mb(count: int) -> float:
    """Resident memory by which so many sessions with the sample, none embedded, make a process grow."""
    before = _resident_mb()
    with tempfile.TemporaryDirectory() as folder:
        controller = Controller(Path(folder), embeddings=Embeddings(_no_model))
        for number in range(count):
            Page(controller, f"page {number}").ask("sample")
        grown = _resident_mb() - before
        controller.close()
    return grown


def _no_model(name: str) -> Predictor:
    raise RuntimeError(f"{name} is not wanted here")


def _resident_mb() -> float:
    return int(ps_of(os.getpid(), "rss")) / 1024


def memory_rows() -> list[Row]:
    """Peak memory by back end, and growth with the sessions."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as apart:
        plain = apart.submit(_peak_mb, "plain").result()
        kinds = ["openvino", "torch"] if backends.has_openvino() else ["torch"]
        rows = [
            Row(
                f"peak memory of a process with the pair, {kind}",
                apart.submit(_peak_mb, kind).result(),
                "MB",
                plain=plain,
            )
            for kind in kinds
        ]
        for count in SESSIONS:
            grown = apart.submit(_sessions_mb, count).result()
            rows.append(Row(f"growth: {count} sessions with the sample open", grown, "MB"))
    return rows


# Many users


class Page:
    """A page that asks a controller, as the viewer's script does."""

    def __init__(self, controller: Controller, name: str) -> None:
        self.controller, self.name, self.last = controller, name, 0
        self.case: str | None = None

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        self.last += 1
        ops = [{"op": op, "id": self.last, **fields}]
        reply = self.controller.answer(self.name, {"case": self.case, "slice": 0, "ops": ops})
        if reply["error"]:
            raise RuntimeError(reply["error"]["text"])
        self.case = reply["case"]
        return reply


def users_rows(sample: Sample, plain_ms: float) -> list[Row]:
    """Users who draw boxes at once and without rest, each on slices of their own scan that nobody has embedded.

    ``plain_ms``: what one box costs both models the plain way, which encodes the slice for each box.
    """
    slices = [k for k, mask in enumerate(sample.reference_zyx) if mask.any()]
    rows, count = [], Counter()

    def own_scan(*_: object, **__: object) -> CTVolume:
        hu_zyx = sample.volume.hu_zyx.copy()
        hu_zyx[:, sample.box.slices()[0].start, sample.box.slices()[1].start] = 30 + count()
        return replace(sample.volume, hu_zyx=hu_zyx)

    for users in USERS:
        waits: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            controller = Controller(Path(folder), read=own_scan)
            pages = [Page(controller, f"user {number}") for number in range(users)]
            for page in pages:
                page.ask("sample")

            def draw(page: Page) -> None:
                for turn in range(BOXES_A_USER):
                    k = slices[turn % len(slices)]
                    box = box_from_mask(sample.reference_zyx[k], margin_px=3)
                    assert box is not None
                    start = time.perf_counter()
                    page.ask("boxes", slice=k, boxes=[box.xyxy])
                    waits.append(time.perf_counter() - start)  # noqa: B023

            start = time.perf_counter()
            threads = [threading.Thread(target=draw, args=(page,)) for page in pages]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - start
            controller.close()
        assert len(waits) == users * BOXES_A_USER, "a user's box failed"
        who = f"{users} user{'s' if users > 1 else ''} at once"
        rows += [
            Row(
                f"{who}: boxes answered a second, both methods",
                len(waits) / seconds,
                "",
                plain=1e3 / plain_ms,
                more_is_better=True,
            ),
            Row.of(f"{who}: wait for a box, slice not embedded", waits, "s"),
        ]
    return rows


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md, too")
    parser.add_argument("--runs", type=int, default=8, help="repetitions of the quick ones")
    parser.add_argument("--sessions", type=int, default=2, help="further pages, to weigh one")
    parser.add_argument("--no-browser", action="store_true", help="leave out the page")
    parser.add_argument("--page", action="store_true", help="the page's rows alone")
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM"), help="its path")
    options = parser.parse_args()
    if options.page and (options.write or options.no_browser):
        parser.error("--page prints a part of the table: leave out --write and --no-browser")
    chromium = None if options.no_browser else find_chromium(options.chromium)
    caption, start = machine(), time.perf_counter()
    for name in (default_model(), default_baseline()):
        load_predictor(name, "cpu")  # compiled and kept: what is timed is every start but the first

    sample, rows = Sample(), list[Row]()

    def add(part: list[Row]) -> None:
        """Say what is known already: the whole takes minutes."""
        rows.extend(part)
        for row in part:
            print(" | ".join(cell for cell in row.cells() if cell), file=sys.stderr, flush=True)

    if chromium is not None:
        add(page_rows(chromium, 2 * options.runs, options.sessions))
    if not options.page:
        add(encoder_rows(sample, options.runs))
        add(decoder_rows(sample, 3 * options.runs))
        # What a box costs both methods where the slice is encoded for each box.
        plain_ms = sum(row.plain or 0 for row in rows if "both panes" in row.what)
        add(scan_rows(sample))
        add(hematoma_rows(sample))
        add(users_rows(sample, plain_ms))
        add(memory_rows())
        add(throughput_rows(THROUGHPUT_SCANS, ["--no-range"]))
    minutes = (time.perf_counter() - start) / 60
    text = markdown(rows, f"On {caption}; measured in {minutes:.0f} minutes.")
    print(text)
    if options.write:
        write(text)


if __name__ == "__main__":
    main()
