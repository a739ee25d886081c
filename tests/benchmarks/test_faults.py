"""Faults around the server: what counts as well, a disk that is slow or full, and a kill, a stop and cuts in truth."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks import faults, table, visit
from ichseg.replace_file import PART, write_whole

LIGHT = "tests/e2e/light_app.py"


def test_an_outcome_counts_what_went_well_and_says_each_wrong_once() -> None:
    outcome = faults.Outcome("killed")
    for wrong in ([], ["lost", "left"], ["lost"]):
        outcome.add(wrong, seconds=len(wrong) / 4)
    assert outcome.cells() == ("killed", "3", "1", "0.5 s", "lost; left")


def test_a_kind_that_is_run_again_takes_its_rows_place_and_leaves_the_others() -> None:
    cut, full = faults.Outcome("cut off"), faults.Outcome("full")
    cut.add([])
    full.add([])
    earlier = f"On a machine.\n\n{faults.table_of([cut, full])}\n"
    cut.add(["half is left"])
    *_, first, second = faults.table_of([cut], earlier).splitlines()
    assert first == "| cut off | 2 | 1 |  | half is left |" and second == "| full | 1 | 1 |  |  |"


def test_a_refusal_is_one_sentence() -> None:
    def refuse() -> None:
        raise RuntimeError("A disk has room; it is full; try later.")

    def fail() -> None:
        answer = httpx.Response(500, request=httpx.Request("POST", "http://here"))
        answer.raise_for_status()

    assert faults.refusal(lambda: None) is None
    assert faults.refusal(refuse) == "A disk has room; it is full; try later."
    assert faults.refusal(fail) == "The server answers 500."
    assert faults.is_sentence("The server answers 500.")
    for said in ("No end", "One. Two.", "Something failed on the server."):
        assert not faults.is_sentence(said)


def test_what_was_sent_twice_is_answered_once() -> None:
    assert faults.done_once({"done": 3, "slices": {"1": {}}}, 3) == []
    assert faults.done_once({"done": 3, "again": {"slices": {}}}, 3) == []
    for reply in ({"done": 2}, {"done": 3, "error": {"text": "No."}}, {"done": 3}):
        assert len(faults.done_once(reply, 3)) == 1


def test_a_table_is_put_between_its_lines_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("a\n<one>\nold\n<two>\nb\n")
    table.write("new", path, between=("<one>", "<two>"))
    assert path.read_text() == "a\n<one>\nnew\n<two>\nb\n"
    with pytest.raises(ValueError, match="has no lines"):
        table.write("new", path, between=("<three>", "<two>"))
    assert "new" in path.read_text()


def test_a_full_disk_has_no_room_until_it_is_no_longer_full(tmp_path: Path) -> None:
    try:
        with faults.small_disk(tmp_path) as disk:
            with faults.full(disk), pytest.raises(OSError) as refused:
                (disk / "scan").write_bytes(b"voxels")
            assert refused.value.errno == errno.ENOSPC
            write_whole(disk / "scan", b"voxels")
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("only root may mount a disk")


def test_a_writer_on_a_slow_disk_can_be_killed_in_the_middle(root: Path, tmp_path: Path) -> None:
    program, target = tmp_path / "program.py", tmp_path / "file"
    program.write_text(
        "import sys; from pathlib import Path; from ichseg.replace_file import write_whole\n"
        "write_whole(Path(sys.argv[1]), b'0123456789')\n"
    )
    hold = tmp_path / "hold"
    hold.touch()
    line = [sys.executable, visit.SLOW_DISK, *map(str, (hold, program, target))]
    process = subprocess.Popen(line, cwd=root)
    visit.wait_until(
        lambda: any(one.stat().st_size for one in tmp_path.glob(f"{PART}*")), "nothing is written"
    )
    time.sleep(1.0)  # on a busy machine who waits sees it late
    process.kill()
    process.wait()
    hold.unlink()
    assert not target.exists()
    assert [one.read_bytes() for one in tmp_path.glob(f"{PART}*")] == [b"01234"]
    assert subprocess.run(line, cwd=root, check=True).returncode == 0
    assert target.read_bytes() == b"0123456789"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[visit.Place]:
    yield visit.Place(tmp_path_factory.mktemp("place"), LIGHT)


@pytest.mark.slow  # three servers: some 25 s
def test_a_server_that_is_killed_stopped_or_cut_off_loses_and_leaves_nothing(
    place: visit.Place,
) -> None:
    last = len(visit.STEPS) - 1
    service = place.serve(slowly=True)
    faults.usual_seconds(service, place)
    service, wrong = faults.kill(service, place, last, moment=0.1, radius_mm=5.0)
    for cut in (faults.cut_upload, faults.cut_voxels, faults.cut_box, faults.cut_progress):
        wrong += cut(service, place)
    assert faults.end(service, signal.SIGTERM) == 0
    wrong += place.left() + place.lost() + place.logged()
    assert wrong == []
    assert faults.stop(place, after_seconds=1.0)[0] == []


@pytest.mark.slow  # a server and the command line: some 12 s
def test_a_full_disk_is_said_and_leaves_nothing() -> None:
    try:
        outcomes = list(faults.full_disks(LIGHT))
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("only root may mount a disk")
    assert [one.wrong for one in outcomes] == [[]] * (len(visit.STEPS) + 1)
