"""People at once, by the server's own protocol: python benchmarks/load.py [--people 1 10 50] [--write]

Each person is a thread that opens a scan of their own (three slices of the sample; one voxel differs, so that each scan
has its own hash), scrolls, draws ten boxes by two methods, follows the hematoma, downloads the session record and
closes the page, without ever pausing to think. Each answer is compared with that of a person who was alone, and the
hash in the record with that of the person's own scan. Meanwhile one hostile client sends made-up sessions, malformed
and oversized messages, files that are not its own, and operations again and again. ``--light`` takes the tests' light
models.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import nibabel  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.table import machine, write  # noqa: E402
from ichseg.sample import sample_paths  # noqa: E402

PLACE = ("<!-- load.py writes from here -->", "<!-- load.py to here -->")
FIRST_SLICE, SLICES = 12, 3
BOX = (285.0, 174.0, 349.0, 291.0)
PATIENCE_SECONDS = 600.0
Waits = dict[str, list[float]]


class Service:
    """app.py in a process of its own, on a free port, with its temporary files in ``folder``."""

    def __init__(self, folder: Path, app: str, options: Sequence[str] = ()) -> None:
        from tests.e2e.conftest import free_port, start

        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.process: subprocess.Popen[bytes] = start(ROOT, folder, port, app=app, options=options)
        config = httpx.get(f"{self.url}/config", timeout=60).json()
        self.lanes = {
            one["targets"][0][1]: one["id"] for one in config["dependencies"] if one["targets"]
        }
        while httpx.get(f"{self.url}/gradio_api/health").status_code != 200:
            time.sleep(0.2)

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Memory of the server's process: what it holds (VmRSS), or its peak (VmHWM)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))

    def files(self) -> list[Path]:
        """Files of people that lie in the server's folder."""
        return [one for one in files_below(self.folder) if one.name not in ("log", "lock")]


class Person:
    """An open page, as far as the server sees it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.hash = secrets.token_hex(6)
        self.http = httpx.Client(base_url=f"{service.url}/gradio_api", timeout=PATIENCE_SECONDS)
        self.case: str | None = None
        self.lease: str | None = None
        self.last = 0

    def message(self, *ops: dict[str, Any], k: int = 0, **more: Any) -> dict[str, Any]:
        """A message of the page."""
        return {"case": self.case, "slice": k, "ops": list(ops), **more}

    def post(self, lane: str, message: Any) -> httpx.Response:
        """Send a message on a lane without the queue."""
        body = {"data": [message], "fn_index": self.service.lanes[lane], "session_hash": self.hash}
        return self.http.post("/run/predict", json=body)

    def ask(self, op: str, lane: str = "edit", k: int = 0, **fields: Any) -> dict[str, Any]:
        """Do an operation; raises RuntimeError with the server's sentence where it does not."""
        self.last += 1
        message = self.message({"op": op, "id": self.last, **fields}, k=k)
        reply = self.reply_in(
            self.queued(message) if lane == "work" else self.post(lane, message).json()
        )
        if reply.get("error") or reply.get("done") != self.last:
            said = (reply.get("error") or {}).get("text", f"the answer is to {reply.get('done')}")
            raise RuntimeError(f"{op}: {said}")
        self.case = reply.get("case", self.case)
        self.lease = reply.get("lease", self.lease)
        return reply

    def again(self) -> dict[str, Any]:
        """Send the last operation's number again, as an undo: it was done, and is not done twice."""
        return self.reply_in(
            self.post("edit", self.message({"op": "undo", "id": self.last})).json()
        )

    def queued(self, message: Any) -> dict[str, Any]:
        """Send a message on the lane with the queue, and wait for its answer."""
        body = {
            "data": [message],
            "fn_index": self.service.lanes["work"],
            "session_hash": self.hash,
        }
        joined = self.http.post("/queue/join", json=body).raise_for_status().json()["event_id"]
        with self.http.stream("GET", "/queue/data", params={"session_hash": self.hash}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                said = json.loads(line[5:])
                # The end of an earlier request, whose stream was cut, may still be told here.
                if said["msg"] == "process_completed" and said["event_id"] == joined:
                    return dict(said["output"])
        raise RuntimeError("the stream ended without an answer")

    @staticmethod
    def reply_in(output: dict[str, Any]) -> dict[str, Any]:
        """The reply in what a lane answers. Raises RuntimeError where there is none."""
        if "data" not in output:
            raise RuntimeError(f"no answer: {output}")
        return dict(output["data"][0]["props"]["reply"])

    def upload(self, path: Path) -> str:
        """Send a file; where the server has it."""
        with path.open("rb") as file:
            files = {"files": (f"{secrets.token_hex(16)}-{path.name}", file)}
            return str(self.http.post("/upload", files=files).raise_for_status().json()[0])

    def close(self) -> None:
        """Give the lease back, as a page that is closed."""
        if self.lease:
            self.http.post("/lease", json={"lease": self.lease, "closed": True})
        self.http.close()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, in order; what is deleted meanwhile is no error."""
    return sorted(Path(below, name) for below, _, names in os.walk(folder) for name in names)


def make_scan(path: Path, number: int) -> Path:
    """Three slices of the sample, of which one voxel outside of the head tells whose they are."""
    loaded: Any = nibabel.load(sample_paths()[0])
    sample = loaded.slicer[:, :, FIRST_SLICE : FIRST_SLICE + SLICES]
    hu = np.asanyarray(sample.dataobj).astype(np.int16)
    hu[0, 0, 0] = -900 + number
    nibabel.save(type(loaded)(hu, sample.affine), path)
    return path


def day(person: Person, scan: Path, waits: Waits) -> tuple[Any, str, str]:
    """What a person does, and how long each step took into ``waits``; the answers, the scan's hash, the record's."""

    def timed(what: str, op: str, **fields: Any) -> dict[str, Any]:
        start = time.perf_counter()
        reply = person.ask(op, **fields)
        waits[what].append(time.perf_counter() - start)
        return reply

    start = time.perf_counter()
    given = {"path": person.upload(scan), "name": scan.name}
    opened = person.ask("open", lane="work", files=[given])
    waits["open a scan, uploaded to shown"].append(time.perf_counter() - start)
    person.http.get(f"/file={opened['scan']['voxels']}").raise_for_status()
    person.ask("fetched")
    for k in range(SLICES):
        start = time.perf_counter()
        person.post("look", person.message(k=k)).raise_for_status()
        waits["scroll by a slice"].append(time.perf_counter() - start)
    answers: list[Any] = []
    seen: set[int] = set()
    for number in range(10):
        k = number % SLICES
        box = [*BOX[:3], BOX[3] - number // SLICES]
        kind = "box on an embedded slice" if k in seen else "first box on a slice"
        reply = timed(kind, "boxes", k=k, slice=k, boxes=[box], first=True)
        if reply.get("later"):
            reply = timed("the other method's mask of a first box", "complete", k=k, slice=k)
        seen.add(k)
        answers.append(reply["slices"][str(k)]["masks"])
    before = reply["totals"]
    if person.again().get("totals") != before:
        raise RuntimeError("an operation sent again was done again")
    followed = timed("whole hematoma", "propagate", lane="work", lesion=1)
    answers.append({k: one["masks"] for k, one in followed["slices"].items()})
    start = time.perf_counter()
    file = person.ask("export", lane="work", kind="record")["download"]
    record = person.http.get(f"/file={file['path']}").raise_for_status().json()
    waits["download"].append(time.perf_counter() - start)
    return answers, hash_of(opened["scan"]["record"]), hash_of(record)


def hash_of(record: dict[str, Any]) -> str:
    """The scan's hash in a session record."""
    scan = record["scan"]
    return str(next(scan[key] for key in scan if "sha256" in key))


def harass(service: Service, over: threading.Event, said: dict[str, int]) -> None:
    """A hostile client, until ``over``; ``said`` counts what it sent, and what it should not have got."""
    huge = b'{"data": ["' + b"x" * (17 << 20) + b'"]}'
    odd: list[Any] = [
        None,
        7,
        "x",
        [],
        {"ops": 3},
        {"ops": [{}]},
        {"ops": [{"id": -1, "op": "boxes"}]},
        {"slice": 1e300},
    ]
    while not over.is_set():
        one = Person(service)
        try:
            sent = [one.post("edit", message) for message in odd]
            stolen = {"path": "/etc/passwd", "name": "a.nii"}
            for op in (
                {"op": "boxes", "slice": 0, "boxes": [[0, 0, 9, 9]]},
                {"op": "open", "files": [stolen]},
                {"op": "export"},
            ):
                sent += [one.post("edit", one.message({"id": 1, **op})) for _ in range(2)]
            one.post("look", {**one.message(), "cancel": True})
            refused = one.http.post(
                "/run/predict", content=huge, headers={"content-type": "application/json"}
            )
            said["sent"] += len(sent) + 2
            said["taken"] += refused.status_code != 413
            said["disclosed"] += sum(
                '"voxels"' in answer.text or '"case":"' in answer.text for answer in sent
            )
        except httpx.HTTPError:
            said["cut off"] += 1
        finally:
            one.close()
        over.wait(0.5)


def crowd(
    service: Service, scans: Sequence[Path], alone: Any
) -> tuple[Waits, list[str], Any, dict[str, int]]:
    """So many people at once: waits by step, failures as sentences, the first's answers, the hostile client's count."""
    waits: Waits = defaultdict(list)
    failures: list[str] = []
    answers: list[Any] = []
    hashes: list[str] = []
    over, said = threading.Event(), defaultdict[str, int](int)
    hostile = threading.Thread(target=harass, args=(service, over, said))
    hostile.start()

    def live(scan: Path) -> None:
        person = Person(service)
        try:
            found, own, saved = day(person, scan, waits)
            hashes.append(own)
            if own != saved:
                failures.append("another's scan in the record")
            if found != (alone or found):
                failures.append("another answer than alone")
            answers.append(found)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}"[:200])
        finally:
            person.close()

    with ThreadPoolExecutor(len(scans)) as pool:
        list(pool.map(live, scans))
    over.set()
    hostile.join()
    failures += ["two people with one hash"] * (len(hashes) - len(set(hashes)))
    return waits, failures, answers[0] if answers else None, said


def measure(people: Sequence[int], app: str) -> str:
    """The table, in Markdown."""
    ran_on = machine()
    lines = [
        "| what | " + " | ".join(f"{n} at once" for n in people) + " |",
        "| --- |" + " --- |" * len(people),
    ]
    cells: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = [make_scan(folder / f"scan-{number}.nii", number) for number in range(max(people))]
        (folder / "server").mkdir()
        service = Service(folder / "server", app)
        try:
            _, failures, alone, _ = crowd(service, scans[:1], None)  # models and libraries warm
            if failures:
                raise RuntimeError(failures[0])
            time.sleep(3)
            before = service.memory_mb()
            for count in people:
                start = time.perf_counter()
                waits, failures, _, said = crowd(service, scans[:count], alone)
                seconds = time.perf_counter() - start
                print(
                    f"{count} people: {seconds:.0f} s, {failures[:5]}, hostile {dict(said)}",
                    file=sys.stderr,
                    flush=True,
                )
                for what, times in waits.items():
                    cells[what].append(f"{statistics.median(times):.2f} s (worst {max(times):.2f})")
                cells["all of it, all people"].append(f"{seconds:.0f} s")
                cells["failures, wrong answers, crossed scans"].append(str(len(failures)))
                cells[
                    "hostile messages; of them taken or answered with anything of a person's"
                ].append(f"{said['sent']}; {said['taken'] + said['disclosed']}")
                cells[f"memory of the server at the peak (at the start {before:.0f} MB)"].append(
                    f"{service.memory_mb('VmHWM'):.0f} MB"
                )
                time.sleep(3)
                after = service.memory_mb()
                cells["memory after all have gone"].append(
                    f"{after:.0f} MB ({after / before:.2f} x the start)"
                )
                cells["people's files left on the server"].append(str(len(service.files())))
        finally:
            service.process.terminate()
            status = service.process.wait(60)
    lines += [f"| {what} | " + " | ".join(row) + " |" for what, row in cells.items()]
    return "\n".join([f"On {ran_on}. The server ended with status {status}.", "", *lines])


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--light", action="store_true", help="the tests' light models")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    text = measure(asked.people, "tests/e2e/light_app.py" if asked.light else "app.py")
    print(text)
    if asked.write:
        write(text, between=PLACE)


if __name__ == "__main__":
    main()
