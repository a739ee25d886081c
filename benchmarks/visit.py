"""A person who opens a scan and corrects a scan of a study, step by step, and what no fault may change of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.load import (
    BOX,
    ROOT,
    SLICES,
    Person,
    Service,
    files_below,
    hash_of,
    make_scan,
)
from ichseg.cohort.manifest import read_manifest
from ichseg.cohort.study import rows_of
from ichseg.replace_file import is_part

SLOW_DISK = "benchmarks/slow_disk.py"
SLICE = 1
PATIENCE_SECONDS = 120.0


class Place:
    """A scan, a study of it with the results of the command line, and the folder of a server that corrects it."""

    def __init__(self, folder: Path, app: str) -> None:
        self.folder, self.app = folder, app
        self.scan = make_scan(folder / "scan.nii", 1)
        self.manifest, self.results = folder / "study.csv", folder / "results"
        self.manifest.write_text(f'scan,boxes\nscan.nii,"{SLICE}:{box_text()}"\n')
        made = command("segment", self.manifest, "--no-range", "--out", self.results)
        if made.returncode:
            raise RuntimeError(made.stderr)
        (self.key,) = rows_of(read_manifest(self.manifest), self.results)
        self.by_command = contents(self.results)
        self.server = folder / "server"
        self.server.mkdir()
        self.hold = folder / "hold"
        """While it is there, what writes on the slow disk stays in the middle of a file."""

    def serve(self, *, slowly: bool = False) -> Service:
        """The page for the study; ``slowly`` on a slow disk."""
        program = [SLOW_DISK, str(self.hold), self.app] if slowly else [self.app]
        study = ("--study", str(self.manifest), str(self.results))
        return Service(self.server, program[0], (*program[1:], *study))

    def sizes(self) -> list[int]:
        """The sizes in bytes of all files but the server's log, in order: an uploaded one may be moved."""
        return sorted(_size(path) for path in files_below(self.folder) if path.name != "log")

    def parts(self) -> set[Path]:
        """Files that are being written, or that a killed writer has left."""
        return set(filter(is_part, files_below(self.folder)))

    @contextmanager
    def writing(self) -> Iterator[Callable[[], None]]:
        """Keep what begins to write in here in the middle of its file; gives what waits for that."""
        before = self.parts()
        self.hold.touch()
        try:
            yield lambda: wait_until(
                lambda: any(_size(path) for path in self.parts() - before),
                "no file is being written",
            )
        finally:
            self.hold.unlink()

    def left(self) -> list[str]:
        """What a server that has just started, or has ended, holds of earlier ones."""
        kept = [path for path in files_below(self.server) if path.name not in ("log", "lock")]
        folders = list(self.server.glob("gradio/*"))
        return [f"{len(kept)} files left in the temporary folder"] * bool(kept) + [
            f"{len(folders)} folders in the temporary folder"
        ] * (len(folders) > 1)

    def lost(self) -> list[str]:
        """What of the command line's results is no longer as it was."""
        now = contents(self.results)
        return [f"{name} changed" for name, was in self.by_command.items() if now.get(name) != was]

    def logged(self) -> list[str]:
        """What the server's log tells of errors."""
        log = (self.server / "log").read_text(errors="replace")
        signs = ("terminate called", "Traceback", "Fatal Python error")
        return [f"'{sign}' in the log" for sign in signs if sign in log]


class Visit(Person):
    """A person who opens a scan, marks it, and corrects a scan of the study by a disk of their own radius."""

    def __init__(self, service: Service, place: Place, radius_mm: float) -> None:
        super().__init__(service)
        self.place, self.radius_mm = place, radius_mm
        self.given: dict[str, str] = {}
        self.opened: dict[str, Any] = {}
        self.volume_ml = 0.0

    def send(self) -> None:
        """Upload the scan."""
        self.given = {"path": self.upload(self.place.scan), "name": self.place.scan.name}

    def open(self) -> None:
        """Open it."""
        self.opened = self.ask("open", lane="work", files=[self.given])

    def fetch(self) -> None:
        """Fetch its voxels."""
        self.http.get(f"/file={self.opened['scan']['voxels']}").raise_for_status()

    def scroll(self) -> None:
        """Look at each slice."""
        for k in range(SLICES):
            self.post("look", self.message(k=k)).raise_for_status()

    def draw(self) -> None:
        """Draw a box, which two methods answer."""
        self.ask("boxes", k=SLICE, slice=SLICE, boxes=[BOX])

    def follow(self) -> None:
        """Follow the hematoma over the slices."""
        self.ask("propagate", lane="work", lesion=1)

    def download(self) -> None:
        """Download the record; it is of the person's own scan."""
        file = self.ask("export", lane="work", kind="record")["download"]
        record = self.http.get(f"/file={file['path']}").raise_for_status().json()
        if hash_of(record) != hash_of(self.opened["scan"]["record"]):
            raise RuntimeError("the record is of another scan")

    def open_row(self) -> None:
        """Open the study's scan, with what is saved of it."""
        reply = self.ask("study_open", lane="work", key=self.place.key)
        self.volume_ml = reply["totals"][reply["models"][0]]

    def correct(self) -> None:
        """Add a disk to its mask by hand."""
        disk: dict[str, Any] = {"points": [[60.5, 60.5]], "radius_mm": self.radius_mm}
        reply = self.ask("correct", k=SLICE, slice=SLICE, lesion=1, tool="brush", **disk)
        self.volume_ml = reply["totals"][reply["models"][0]]

    def save(self) -> None:
        """Save the correction into the study."""
        self.ask("study_save", lane="work")


Step = tuple[str, Callable[[Visit], None]]
STEPS: tuple[Step, ...] = (
    ("uploads a scan", Visit.send),
    ("opens it", Visit.open),
    ("fetches its voxels", Visit.fetch),
    ("scrolls", Visit.scroll),
    ("draws a box", Visit.draw),
    ("follows the hematoma", Visit.follow),
    ("downloads the record", Visit.download),
    ("opens a scan of the study", Visit.open_row),
    ("corrects it by hand", Visit.correct),
    ("saves the correction", Visit.save),
)
WRITING = (Visit.download, Visit.save)


def box_text() -> str:
    """The box as the command line takes it."""
    return ",".join(f"{side:g}" for side in BOX)


def command(*arguments: object, program: Sequence[str] = ("-m", "ichseg")) -> Any:
    """Run the command line to its end, with the method that has no weights."""
    line = [sys.executable, *program, *map(str, arguments), "--model", "threshold"]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for those in folders of it."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _size(path: Path) -> int:
    """A file's size in bytes; 0 where it has gone meanwhile."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def wait_until(true: Callable[[], Any], what: str) -> None:
    """Wait, and raise RuntimeError where it does not come true."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if time.monotonic() > limit:
            raise RuntimeError(f"{what} within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.002)
