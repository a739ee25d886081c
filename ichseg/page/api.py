"""What programs call beside the page: ``segment`` and ``measure``, as Gradio's API and as MCP tools.

A call reads the files that it was given, answers, and forgets: what was uploaded goes when the call ends, what it
wrote once it was downloaded, or after KEEP_SECONDS. Files are renamed when they come, so that nothing has their names.

Gradio reads the types of the two functions as they stand: annotations are not put off in this module.
"""

import json
import logging
import math
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import gradio as gr
from gradio.events import api as endpoint
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from ichseg import cohort
from ichseg.errors import InputError, VolumeError
from ichseg.files import write
from ichseg.files.labels import with_types
from ichseg.files.mask import read_labelled_mask
from ichseg.files.measured import assess_read, measure_record
from ichseg.files.names import ending_of, file_name, mask_name, picture_ending
from ichseg.files.records import complete
from ichseg.marks.box import Box
from ichseg.methods.catalogue import CATALOGUE, default_model, load_listed
from ichseg.page.masks import MAX_BOXES
from ichseg.page.protocol import Pixel, parse
from ichseg.replace_file import write_whole
from ichseg.scan import formats
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

#: Calls that are computed at once, and those that may wait for that beside them. A caller has one of either.
CALLS_AT_ONCE, CALLS_WAITING = 2, 8
#: How long a call waits for its turn, and how long it may take then.
WAIT_SECONDS, MOST_SECONDS = 60.0, 600.0
#: How long files wait to be downloaded, and those of how many calls.
KEEP_SECONDS, CALLS_KEPT = 600.0, 64
#: A file that a program gives; Gradio bounds what is uploaded alike.
MAX_FILE_BYTES = 512 << 20

_ENDINGS = (*formats.endings(), *write.endings("mask"), *write.endings("measures"), ".gz")
_CORRECT = "correct it and call again"
_TOO_LONG = (
    f"A call takes at most {MOST_SECONDS / 60:.0f} minutes; this one took longer; ask for less of the scan, "
    "or for a quicker method."
)
_FAILED = (
    "Something failed on the server that should not have; the details are in its log; try again."
)

_log = logging.getLogger(__name__)

ModelName = Literal[tuple(CATALOGUE)]  # type: ignore[valid-type]
Boxes = Annotated[
    list[Annotated[list[Pixel], Field(min_length=4, max_length=4)]], Field(max_length=MAX_BOXES)
]
BySlice = Annotated[
    dict[Annotated[int, Field(ge=0, le=1_000_000)], Boxes], Field(min_length=1, max_length=2000)
]


@dataclass(frozen=True)
class Given:
    """A file that a program gave, as Gradio has it."""

    path: Annotated[str, Field(max_length=4096)]
    orig_name: Annotated[str | None, Field(max_length=1000)] = None


class Api:
    """The two functions, bounded: sizes, one call a caller, calls at once, and time."""

    def __init__(self, upload_root: Path, read: Callable[[Path], CTVolume] = read_volume) -> None:
        """``upload_root`` is where Gradio puts uploads and serves files from; ``read`` opens a scan."""
        self.upload_root = upload_root.resolve()
        self.read = read
        self._served = self.upload_root / "api"
        self._turns = threading.BoundedSemaphore(CALLS_AT_ONCE)
        self._lock = threading.Lock()
        self._callers: set[str] = set()
        self._reading: list[Path] = []
        self._kept: OrderedDict[str, threading.Timer] = OrderedDict()

    def add(self) -> None:
        """Add the endpoints to the page that is being built."""

        def segment(  # noqa: D417 - Gradio gives the request itself
            request: gr.Request,
            scan: gr.FileData | str,
            boxes: dict[str, list[list[float]]] | Literal["auto"],
            model: ModelName = default_model(),  # type: ignore[valid-type]  # noqa: B008 - as it is at the start
            propagate: bool = False,
        ) -> tuple[str, gr.FileData, gr.FileData]:
            """Segment blood on a non-contrast head CT from boxes, and give its volume in millilitres.

            Research software. Not a medical device. Not for clinical use.

            Args:
                scan: the head CT, uploaded to this server first (POST /gradio_api/upload), then its path or address: a NIfTI, NRRD or MetaImage file, or a zip of one DICOM series.
                boxes: by slice, as {"12": [[120, 80, 180, 140]]}. Slices are numbered from 0 at the foot end. A box is x0, y0, x1, y1 in pixels of the slice as radiologists look at it: x from the patient's right to left, y from front to back, the last column and row not included. Or "auto": the program proposes and takes blood by itself, which nobody has checked.
                model: the method that answers the boxes.
                propagate: go on from the boxes to the whole hematoma, slice by slice, until it ends.

            Returns:
                record: JSON text, the object of "ichseg segment --json": volume_ml; slices (slice, area_mm2, height_mm, volume_ml); boxes; lesions; the scan's warnings; model and what else decided the mask; notice.
                mask: the mask on the scan's own grid: NIfTI, or a zip with a picture of each slice where slices are not even.
                picture: the slice with most blood as PNG, with outline and boxes.

            """  # noqa: E501 - Gradio reads an argument a line
            return self.segment(scan, boxes, model, propagate, request)

        def measure(  # noqa: D417
            request: gr.Request, scan: gr.FileData | str, mask: gr.FileData | str
        ) -> tuple[str, gr.FileData]:
            """Measure a mask of blood on a non-contrast head CT: volume, lengths, ABC/2, surface, HU and side, by lesion.

            Research software. Not a medical device. Not for clinical use.

            Args:
                scan: the head CT, uploaded to this server first (POST /gradio_api/upload), then its path or address: a NIfTI, NRRD or MetaImage file, or a zip of one DICOM series.
                mask: its mask on the same grid, uploaded likewise: NIfTI, .seg.nrrd, NRRD, MetaImage, DICOM-SEG, or a zip with a picture of each slice.

            Returns:
                record: JSON text, the object of "ichseg measure --json": baseline (scan, volume_ml, slices, total, lesions, notes); scores; notice.
                report: a report of one or two pages, PDF.

            """  # noqa: E501
            return self.measure(scan, mask, request)

        # Without Gradio's queue: a call is bounded here, by caller and in time, and the caller of an MCP tool is known.
        for function in (segment, measure):
            endpoint(function, api_name=function.__name__, queue=False)

    def segment(self, scan: Any, boxes: Any, model: Any, propagate: Any, request: Any) -> Any:
        """What ``segment`` answers: record, mask, picture. Raises gr.Error with a sentence for people."""
        with self._call(request, {"scan": scan}) as call:
            auto = boxes == "auto"
            given = {} if auto else parse(BySlice, boxes, "the boxes by slice", _CORRECT)
            predictor = load_listed(parse(str, model, "the model", _CORRECT))
            whole = parse(bool, propagate, "whether to propagate", _CORRECT)
            volume = self.read(call.files["scan"])
            prompts = {k: [Box(*one) for one in drawn] for k, drawn in given.items()}
            found = cohort.segment(
                volume,
                "auto" if auto else prompts,
                model=predictor,
                propagate=whole,
                cancelled=call.late,
            )
            record = complete(found.record())
            mask, picture = (
                call.out / name
                for name in (
                    mask_name(volume),
                    file_name(volume, picture_ending(found.largest_slice)),
                )
            )
            found.save(mask)
            write_whole(picture, found.picture_png())
            return json.dumps(record), *call.hand_out(mask, picture)

    def measure(self, scan: Any, mask: Any, request: Any) -> Any:
        """What ``measure`` answers: record, report. Raises gr.Error with a sentence for people."""
        with self._call(request, {"scan": scan, "mask": mask}) as call:
            volume = self.read(call.files["scan"])
            given = read_labelled_mask(call.files["mask"], volume)
            (typed,) = with_types([given], [{}])
            found = assess_read(given, typed, volume)
            record = complete(measure_record([found], [typed.notes]))
            report = call.out / file_name(volume, "report.pdf")
            write.save_measures(report, found)
            return json.dumps(record), *call.hand_out(report)

    def route(self) -> Route:
        """Where the files are downloaded, once each: a route before Gradio's own of the same address."""

        async def download(request: Request) -> Response:
            token, name = request.path_params["token"], request.path_params["name"]
            path = self._served / token / name
            if token not in self._kept or not path.is_file():
                return PlainTextResponse("There is no such file.", status_code=404)
            whole = request.method == "GET" and "range" not in request.headers
            return FileResponse(
                path,
                filename=name,
                headers={"Cache-Control": "no-store"},
                background=BackgroundTask(self._downloaded, path) if whole else None,
            )

        return Route(f"/gradio_api/file={self._served.as_posix()}/{{token}}/{{name}}", download)

    def close(self) -> None:
        """Delete what was not downloaded."""
        with self._lock:
            kept = list(self._kept)
        for token in kept:
            self._forget(token)

    # A call

    @contextmanager
    def _call(self, request: Any, given: Mapping[str, Any]) -> "Iterator[_Call]":
        """What a call has, in its turn and for its time; every error leaves it as one sentence."""
        uploads: list[tuple[Path, tuple[int, int]]] = []
        end = math.inf
        try:
            with self._turn(_caller(request)), tempfile.TemporaryDirectory() as folder:
                end = time.monotonic() + MOST_SECONDS
                private = Path(folder)
                files = {
                    name: self._take(name, one, private, uploads) for name, one in given.items()
                }
                (private / "out").mkdir()
                yield _Call(files, private / "out", lambda: time.monotonic() > end, self._keep)
        except InputError as error:
            sentence = _TOO_LONG if time.monotonic() > end else str(error)
            raise gr.Error(sentence, print_exception=False) from error
        except Exception as error:
            _log.exception("a call failed")
            raise gr.Error(_FAILED, print_exception=False) from error
        finally:
            self._let_go(uploads)

    @contextmanager
    def _turn(self, caller: str) -> Iterator[None]:
        with self._lock:
            if caller in self._callers:
                raise InputError(
                    "A caller has one call at a time; another of yours is under way; wait for its answer."
                )
            if len(self._callers) >= CALLS_AT_ONCE + CALLS_WAITING:
                raise _busy(len(self._callers))
            self._callers.add(caller)
        try:
            if not self._turns.acquire(timeout=WAIT_SECONDS):
                raise _busy(CALLS_AT_ONCE)
            try:
                yield
            finally:
                self._turns.release()
        finally:
            with self._lock:
                self._callers.discard(caller)

    def _take(
        self, what: str, given: Any, folder: Path, uploads: list[tuple[Path, tuple[int, int]]]
    ) -> Path:
        """An uploaded file under a name that says nothing of it, and that nobody else's call takes away."""
        file = _file(given, what)
        refused = VolumeError(
            f"A {what} is a file that was uploaded to this server; this one is not here; upload it to "
            "/gradio_api/upload, then give its path or its address."
        )
        try:
            path = Path(file.path).resolve()
            stat = path.stat()
            if not path.is_relative_to(self.upload_root) or not path.is_file():
                raise refused
        except (OSError, ValueError):  # no file can have such a name
            raise refused from None
        with self._lock:
            self._reading.append(path)
        uploads.append((path, (stat.st_ino, stat.st_mtime_ns)))
        if stat.st_size > MAX_FILE_BYTES:
            raise VolumeError(
                f"A file is at most {MAX_FILE_BYTES >> 20} MB; the {what} has {stat.st_size >> 20} MB; "
                "give one series."
            )
        place = folder / f"{what}{ending_of(Path(file.orig_name or path.name), _ENDINGS)}"
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)
        return place

    def _let_go(self, uploads: Iterable[tuple[Path, tuple[int, int]]]) -> None:
        """Delete what this call was given, unless another call reads it, or it was uploaded again since."""
        for path, at in uploads:
            with self._lock, suppress(OSError):
                self._reading.remove(path)
                stat = path.stat()
                if path not in self._reading and at == (stat.st_ino, stat.st_mtime_ns):
                    path.unlink()
                    path.parent.rmdir()  # Gradio made it for this one file

    # What is handed out

    def _keep(self, paths: tuple[Path, ...]) -> list[dict[str, Any]]:
        """Move files to where they are served, for a while."""
        token = secrets.token_urlsafe(18)
        folder = self._served / token
        folder.mkdir(parents=True)
        timer = threading.Timer(KEEP_SECONDS, self._forget, [token])
        timer.daemon = True
        with self._lock:
            self._kept[token] = timer
            surplus = list(self._kept)[: max(0, len(self._kept) - CALLS_KEPT)]
        timer.start()
        for old in surplus:
            self._forget(old)
        places = [Path(shutil.move(path, folder / path.name)) for path in paths]
        return [
            {
                "path": str(place),
                "orig_name": place.name,
                "size": place.stat().st_size,
                "meta": {"_type": "gradio.FileData"},
            }
            for place in places
        ]

    def _downloaded(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            self._forget(path.parent.name)

    def _forget(self, token: str) -> None:
        with self._lock:
            timer = self._kept.pop(token, None)
        if timer is not None:
            timer.cancel()
            shutil.rmtree(self._served / token, ignore_errors=True)


@dataclass(frozen=True)
class _Call:
    """One call: the files that it was given, by what they are, a folder for what it writes, and whether it is late."""

    files: Mapping[str, Path]
    out: Path
    late: Callable[[], bool]
    keep: Callable[[tuple[Path, ...]], list[dict[str, Any]]]

    def hand_out(self, *paths: Path) -> list[dict[str, Any]]:
        """Files to be downloaded, as Gradio tells of them."""
        return self.keep(paths)


def _file(given: Any, what: str) -> Given:
    """A file as Gradio's clients tell of it, or as its path, or its address on this server. Nothing is fetched."""
    if isinstance(given, str):
        _, marker, path = given.partition("/gradio_api/file=")
        given = {"path": unquote(path) if marker else given}
    return parse(Given, given, f"the file '{what}'", _CORRECT)


def _caller(request: Any) -> str:
    """Who calls: the address that the server sees, or that a proxy which it trusts tells it."""
    client = getattr(request, "client", None)
    return str(getattr(client, "host", ""))


def _busy(count: int) -> InputError:
    return InputError(
        f"The server answers {CALLS_AT_ONCE} calls at a time; {count} are under way; call again in a minute."
    )
