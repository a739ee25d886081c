"""Faults around the server, by its own protocol: python benchmarks/faults.py [--only kills] [--light] [--write]

A person opens a scan, scrolls, draws a box, follows the hematoma, downloads the record, and corrects a scan of a study.
In the middle of each of these ten steps, and right after it, the server is killed and started again. It is told to
stop while people are at work. The connection is cut in the middle of an answer and of an upload. The disk is full at
each step (a small one in memory, which only root may mount). ``--light`` takes the tests' light models.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402

from benchmarks.load import BOX, PATIENCE_SECONDS, Person, Service, day  # noqa: E402
from benchmarks.table import RESULTS, machine, write  # noqa: E402
from benchmarks.visit import (  # noqa: E402
    SLICE,
    SLOW_DISK,
    STEPS,
    WRITING,
    Place,
    Visit,
    box_text,
    command,
    wait_until,
)

PLACE = ("<!-- faults.py writes from here -->", "<!-- faults.py to here -->")
HEADINGS = ("what happened", "times", "all well", "ended within", "what was wrong")
DISK_MB = 64
PEOPLE_AT_A_STOP = 3


@dataclass
class Outcome:
    """What was done to the server how often, and what was then not as it should be, in sentences."""

    what: str
    tried: int = 0
    well: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long the server took to end."""

    def add(self, wrong: Sequence[str], seconds: float | None = None) -> None:
        """One more try."""
        self.tried += 1
        self.well += not wrong
        self.wrong += wrong
        self.seconds += [] if seconds is None else [seconds]
        print(f"{self.what}: {'; '.join(wrong) or 'well'}", file=sys.stderr, flush=True)

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        worst = f"{max(self.seconds):.1f} s" if self.seconds else ""
        wrong = "; ".join(dict.fromkeys(self.wrong))
        return self.what, str(self.tried), str(self.well), worst, wrong


# Killed


def kills(place: Place, rounds: int) -> Iterator[Outcome]:
    """Kill the server in the middle of each step and right after it, by turns, until it was killed so often."""
    outcomes = [Outcome(f"killed while a person {name}, and right after it") for name, _ in STEPS]
    points = [(at, middle) for at in range(len(STEPS)) for middle in (True, False)]
    service = place.serve(slowly=True)
    try:
        usual = usual_seconds(service, place)
        for number in range(rounds):
            at, middle = points[number % len(points)]
            moment = usual[at] / 2 if middle else None
            service, wrong = kill(service, place, at, moment, radius_mm=4.0 + number / 2)
            outcomes[at].add(wrong)
    finally:
        end(service, signal.SIGTERM)
    yield from (one for one in outcomes if one.tried)
    yield kill_command(place)


def usual_seconds(service: Service, place: Place) -> list[float]:
    """How long each step takes a person whom nothing happens to; their correction is saved."""
    times = []
    visit = Visit(service, place, radius_mm=3.0)
    for _, do in STEPS:
        start = time.perf_counter()
        do(visit)
        times.append(time.perf_counter() - start)
    visit.close()
    return times


def kill(
    service: Service, place: Place, at: int, moment: float | None, radius_mm: float
) -> tuple[Service, list[str]]:
    """Kill the server at a step of a person's, and start it again.

    ``moment``: so many seconds into the step, or where it is writing a file; None for right after it. Gives the new
    server, and what was wrong.
    """
    was_ml = saved_ml(service, place)
    visit, do = Visit(service, place, radius_mm), STEPS[at][1]
    for _, before in STEPS[:at]:
        before(visit)
    if moment is None:
        do(visit)
        end(service, signal.SIGKILL)
    else:
        with place.writing() as wait_for_half:
            step = threading.Thread(target=quietly, args=(partial(do, visit),))
            step.start()
            if do in WRITING:
                wait_for_half()
            else:
                time.sleep(moment)
            end(service, signal.SIGKILL)
            step.join()
    may_be = {was_ml}
    if do is Visit.save:  # which may have been done; and was, where it was answered
        may_be = {visit.volume_ml} if moment is None else {was_ml, visit.volume_ml}
    service = place.serve(slowly=True)
    wrong = place.left() + place.lost()
    if (now_ml := saved_ml(service, place)) not in may_be:
        wrong.append(f"{now_ml:.2f} ml are saved in place of {was_ml:.2f}")
    return service, wrong


def saved_ml(service: Service, place: Place) -> float:
    """The volume of the study's scan as it is saved."""
    visit = Visit(service, place, radius_mm=1.0)
    visit.open_row()
    visit.close()
    return visit.volume_ml


def earlier_mask(place: Place) -> tuple[Path, tuple[object, ...]]:
    """A mask that the command line wrote, and the arguments by which it writes over it."""
    mask = place.folder / "mask.nii.gz"
    arguments = ("segment", place.scan, "--slice", SLICE, "--box", box_text(), "--out", mask)
    command(*arguments)
    return mask, arguments


def kill_command(place: Place) -> Outcome:
    """Kill the command line while it writes over an earlier mask."""
    outcome = Outcome("the command line killed while it writes over its mask")
    mask, arguments = earlier_mask(place)
    was = mask.read_bytes()
    program = [sys.executable, SLOW_DISK, place.hold, "ichseg/__main__.py", *arguments]
    line = [*map(str, program), "--model", "threshold"]
    with place.writing() as wait_for_half:
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_for_half()
        process.kill()
        process.wait()
    outcome.add(["the mask changed"] * (mask.read_bytes() != was))
    return outcome


def quietly(do: Callable[[], Any]) -> None:
    """Do what a fault breaks off."""
    with suppress(httpx.HTTPError, RuntimeError, KeyError, json.JSONDecodeError):
        do()


def end(service: Service, by: signal.Signals) -> int:
    """End the server; its status."""
    service.process.send_signal(by)
    return service.process.wait(PATIENCE_SECONDS)


# Told to stop


def stops(place: Place, rounds: int) -> Iterator[Outcome]:
    """Tell the server to stop while three people are at work, each time a little later."""
    outcome = Outcome(f"told to stop (SIGTERM) while {PEOPLE_AT_A_STOP} people are at work")
    for number in range(rounds):
        outcome.add(*stop(place, after_seconds=0.5 + number / 5))
    yield outcome


def stop(place: Place, after_seconds: float) -> tuple[list[str], float]:
    """Tell the server to stop so long after people began to work; what was wrong, and how long it took to end."""
    service = place.serve()

    def work() -> None:
        while True:
            day(Person(service), place.scan, defaultdict(list))

    people = [threading.Thread(target=quietly, args=(work,)) for _ in range(PEOPLE_AT_A_STOP)]
    for one in people:
        one.start()
    time.sleep(after_seconds)
    start = time.perf_counter()
    status = end(service, signal.SIGTERM)
    seconds = time.perf_counter() - start
    for one in people:
        one.join()
    wrong = [f"status {status}"] * (status != 0)
    return wrong + place.left() + place.lost() + place.logged(), seconds


# Cut off


def cuts(place: Place, rounds: int) -> Iterator[Outcome]:
    """Cut connections in the middle; what was cut goes on, is done once, and nothing is left of it."""
    service = place.serve()
    kinds: tuple[tuple[str, Callable[[Service, Place], list[str]]], ...] = (
        ("an upload", cut_upload),
        ("the answer with the voxels", cut_voxels),
        ("the answer to a box", cut_box),
        ("the progress of a whole hematoma", cut_progress),
    )
    try:
        for name, cut in kinds:
            outcome = Outcome(f"the connection cut in the middle of {name}")
            for _ in range(rounds):
                outcome.add(cut(service, place))
            yield outcome
        logged = Outcome("the server's log after these, and its end")
        status = end(service, signal.SIGTERM)
        logged.add([f"status {status}"] * (status != 0) + place.left() + place.logged())
        yield logged
    finally:
        service.process.kill()


def hang_up(service: Service, path: str, kind: str, body: bytes, share: float = 1.0) -> None:
    """Send a share of a request and close the connection without waiting for an answer."""
    address = urlparse(service.url)
    head = f"POST /gradio_api{path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {kind}\r\n"
    with socket.create_connection((address.hostname, address.port)) as line:
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        line.sendall(body[: int(share * len(body))])
        time.sleep(0.05)


def cut_upload(service: Service, place: Place) -> list[str]:
    """Half of a scan is sent; then it is sent again, and opened."""
    before = service.files()
    head = '--cut\r\nContent-Disposition: form-data; name="files"; filename="scan.nii"\r\n\r\n'
    body = head.encode() + place.scan.read_bytes() + b"\r\n--cut--\r\n"
    hang_up(service, "/upload", "multipart/form-data; boundary=cut", body, share=0.5)
    visit = Visit(service, place, 1.0)
    visit.send()
    visit.open()
    visit.close()
    with suppress(RuntimeError):
        wait_until(lambda: service.files() == before, "")
    return [] if service.files() == before else ["half of an upload is left"]


def cut_voxels(service: Service, place: Place) -> list[str]:
    """A little of the voxels is read; then all of them are fetched."""
    visit = Visit(service, place, 1.0)
    visit.send()
    visit.open()
    with visit.http.stream("GET", f"/file={visit.opened['scan']['voxels']}") as answer:
        next(answer.iter_raw(1000))
    visit.fetch()
    visit.close()
    return []


def cut_box(service: Service, place: Place) -> list[str]:
    """A box is sent, and its answer is not awaited; then the same message is sent again."""
    visit = Visit(service, place, 1.0)
    visit.send()
    visit.open()
    visit.last += 1
    message = visit.message(
        {"op": "boxes", "id": visit.last, "slice": SLICE, "boxes": [BOX]}, k=SLICE
    )
    body = {"data": [message], "fn_index": service.lanes["edit"], "session_hash": visit.hash}
    hang_up(service, "/run/predict", "application/json", json.dumps(body).encode())
    reply = visit.reply_in(visit.post("edit", message).json())
    undone = visit.ask("undo")
    visit.close()
    return done_once(reply, visit.last - 1) + ["done twice"] * bool(undone["undo"])


def cut_progress(service: Service, place: Place) -> list[str]:
    """A hematoma is followed, and its first progress is not awaited; then the same message is sent again."""
    visit = Visit(service, place, 1.0)
    visit.send()
    visit.open()
    visit.draw()
    visit.last += 1
    message = visit.message({"op": "propagate", "id": visit.last, "lesion": 1})
    body = {"data": [message], "fn_index": service.lanes["work"], "session_hash": visit.hash}
    visit.http.post("/queue/join", json=body).raise_for_status()
    with visit.http.stream("GET", "/queue/data", params={"session_hash": visit.hash}) as stream:
        next(stream.iter_raw())
    reply = visit.reply_in(visit.queued(message))
    visit.ask("undo")
    undone = visit.ask("undo")
    visit.close()
    return done_once(reply, visit.last - 2) + ["done twice"] * bool(undone["undo"])


def done_once(reply: dict[str, Any], number: int) -> list[str]:
    """What is wrong with the answer to an operation that was sent twice."""
    if reply.get("error") or reply.get("done") != number:
        return [f"an operation sent again: {reply.get('error') or 'not done'}"]
    return [] if reply.get("slices") or reply.get("again") else ["no answer to what was sent again"]


# The disk full


def full_disks(app: str) -> Iterator[Outcome]:
    """Fill the disk before each step: what needs it says so, leaves nothing, and works once there is room."""
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name)) as disk:
        place = Place(disk, app)
        service = place.serve()
        try:
            visit = Visit(service, place, radius_mm=3.0)
            for name, do in STEPS:
                outcome = Outcome(f"the disk full while a person {name}")
                outcome.add(fill(visit, place, do))
                yield outcome
            visit.close()
        finally:
            end(service, signal.SIGTERM)
        yield fill_before_command(place)


def fill(visit: Visit, place: Place, do: Callable[[Visit], None]) -> list[str]:
    """Fill the disk before a step, and do it again once there is room, where it was refused."""
    before = place.sizes()
    with full(place.folder):
        said = refusal(partial(do, visit))
    if said is None:
        return place.lost()
    wrong = [] if is_sentence(said) else [said]
    wrong += ["something is left of it"] * (place.sizes() != before)
    # The server closes a connection on which it failed: what comes next takes a new one.
    visit.http = httpx.Client(base_url=visit.http.base_url, timeout=PATIENCE_SECONDS)
    if do is Visit.open:
        visit.send()
    do(visit)
    return wrong + place.lost()


def fill_before_command(place: Place) -> Outcome:
    """Fill the disk before the command line writes over an earlier mask."""
    outcome = Outcome("the disk full while the command line writes over its mask")
    mask, arguments = earlier_mask(place)
    was, before = mask.read_bytes(), place.sizes()
    with full(place.folder):
        ran = command(*arguments)
    said = ran.stderr.strip().splitlines()
    wrong = [] if ran.returncode and len(said) == 1 and is_sentence(said[0]) else [ran.stderr]
    wrong += ["the mask changed"] * (mask.read_bytes() != was)
    outcome.add(wrong + ["something is left of it"] * (place.sizes() != before))
    return outcome


def refusal(do: Callable[[], Any]) -> str | None:
    """What is said of a step that cannot be done; None where it is done."""
    try:
        do()
    except httpx.HTTPStatusError as error:
        return f"The server answers {error.response.status_code}."  # the page says it in words of its own
    except RuntimeError as error:
        return str(error)
    return None


def is_sentence(said: str) -> bool:
    """Whether it is one sentence that tells what is wrong."""
    return said.endswith(".") and ". " not in said and "Something failed" not in said


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A small disk of its own on a folder. Raises CalledProcessError for whoever may not mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """A disk without any room."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        yield
    finally:
        filler.unlink()


# All of it


def in_a_place(
    faults: Callable[[Place, int], Iterator[Outcome]], app: str, rounds: int
) -> list[Outcome]:
    """The outcomes of faults in a place of their own."""
    with tempfile.TemporaryDirectory() as name:
        return list(faults(Place(Path(name), app), rounds))


FAULTS: dict[str, Callable[[str, int], list[Outcome]]] = {
    "kills": partial(in_a_place, kills),
    "stops": partial(in_a_place, stops),
    "cuts": partial(in_a_place, cuts),
    "disk": lambda app, _: list(full_disks(app)),
}


def table_of(outcomes: Sequence[Outcome], earlier: str = "") -> str:
    """The rows in Markdown, with those of an earlier table that are not among them."""
    heads = [f"| {' | '.join(cells)} |" for cells in (HEADINGS, ("---",) * len(HEADINGS))]
    rows = [line for line in earlier.splitlines() if line.startswith("| ") and line not in heads]
    by_name = {row.split(" | ")[0]: row for row in rows}
    for one in outcomes:
        row = f"| {' | '.join(one.cells())} |"
        by_name[row.split(" | ")[0]] = row
    return "\n".join([*heads, *by_name.values()])


def main() -> None:
    """Measure, print, and write where asked, each kind when it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--rounds", type=int, default=20, help="kills, stops, and cuts of a kind")
    parser.add_argument("--light", action="store_true", help="the tests' light models")
    parser.add_argument("--write", action="store_true", help="put the rows into RESULTS.md")
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    app = "tests/e2e/light_app.py" if asked.light else "app.py"
    for kind in asked.only:
        ran_on = machine()
        try:
            outcomes = FAULTS[kind](app, asked.rounds)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            if kind != "disk":
                raise
            parser.exit(1, f"Only root may mount a small disk ({error}).\n")
        print(table_of(outcomes))
        if asked.write:
            earlier = (
                RESULTS.read_text(encoding="utf-8").partition(PLACE[0])[2].partition(PLACE[1])[0]
            )
            write(f"On {ran_on}.\n\n{table_of(outcomes, earlier)}", between=PLACE)


if __name__ == "__main__":
    main()
