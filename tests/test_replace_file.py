"""One writer for every file: whole or not at all, never onto an input."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ichseg.errors import InputError
from ichseg.replace_file import PART, check_output, is_part, replacing, sweep_parts, write_whole

ROOT = Path(__file__).resolve().parent.parent


def test_a_file_is_written_and_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"one")
    write_whole(path, b"two", inputs=[tmp_path / "other.bin"])
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_usual_mode_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "new", b"x")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").chmod(0o640)
    write_whole(tmp_path / "plain", b"x")
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real" / "table.csv")
    write_whole(link, b"x")
    assert link.is_symlink() and (tmp_path / "real" / "table.csv").read_bytes() == b"x"


def spellings(folder: Path) -> dict[str, Path]:
    """Names by which one file, folder/in/scan.nii.gz, can be written to."""
    (folder / "in").mkdir()
    (folder / "in" / "scan.nii.gz").write_bytes(b"CT")
    (folder / "link.nii.gz").symlink_to(folder / "in" / "scan.nii.gz")
    (folder / "hard.nii.gz").hardlink_to(folder / "in" / "scan.nii.gz")
    (folder / "door").symlink_to(folder / "in")
    relative = os.path.relpath(folder / "in" / "scan.nii.gz")
    return {
        "itself": folder / "in" / "scan.nii.gz",
        "relative": Path(relative),
        "dots": folder / "in" / ".." / "in" / "scan.nii.gz",
        "link": folder / "link.nii.gz",
        "hard link": folder / "hard.nii.gz",
        "linked folder": folder / "door" / "scan.nii.gz",
    }


NAMES = ("itself", "relative", "dots", "link", "hard link", "linked folder")


@pytest.mark.parametrize("output", NAMES)
@pytest.mark.parametrize("given", NAMES)
def test_an_input_is_never_written_over(tmp_path: Path, output: str, given: str) -> None:
    paths = spellings(tmp_path)
    with pytest.raises(InputError, match="never written over"):
        write_whole(paths[output], b"mask", inputs=[paths[given]])
    assert paths["itself"].read_bytes() == b"CT"


@pytest.mark.parametrize("output", ["new.dcm", "deep/new.dcm", "001.dcm", "../store/002.dcm"])
def test_a_folder_that_is_read_takes_no_output(tmp_path: Path, output: str) -> None:
    series, store = tmp_path / "series", tmp_path / "store"
    (series / "deep").mkdir(parents=True)
    store.mkdir()
    (series / "001.dcm").write_bytes(b"CT")
    (store / "002.dcm").write_bytes(b"CT")
    (series / "002.dcm").symlink_to(store / "002.dcm")  # as version control of large files has it
    (tmp_path / "door").symlink_to(series)
    for given in (series, tmp_path / "door"):
        with pytest.raises(InputError, match="reads as one scan"):
            write_whole(series / output, b"mask", inputs=[given])
    write_whole(tmp_path / "mask.dcm", b"mask", inputs=[series])
    write_whole(store / "mask.dcm", b"mask", inputs=[series])


def test_other_letters_are_the_same_file_where_the_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that does not tell upper from lower case: another name leads to the same file."""
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"CT")
    plain = Path.stat

    def stat_in_any_case(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        return plain(self.with_name(self.name.lower()), follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat_in_any_case)
    with pytest.raises(InputError, match="never written over"):
        check_output(tmp_path / "SCAN.NII.GZ", [scan])


def test_what_is_no_place_for_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for name, says in (
        ("folder", "is a folder"),
        ("none/a.csv", "make it first"),
        ("file/a.csv", "make it first"),
        ("loop", "must be writable"),
        ("pipe", "ordinary file"),
    ):
        with pytest.raises(InputError, match=says):
            check_output(tmp_path / name)


def test_what_fails_halfway_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        assert part.parent == tmp_path and part.suffix == ".npz" and is_part(part)
        part.write_bytes(b"half")
        raise RuntimeError("halfway")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [b"old", None])
def test_a_kill_in_the_middle_leaves_the_old_file_or_none(
    tmp_path: Path, before: bytes | None
) -> None:
    path = tmp_path / "mask.nii.gz"
    if before is not None:
        path.write_bytes(before)
    code = (
        "import os, signal, sys; from pathlib import Path; from ichseg import replace_file\n"
        "def cut(self, content):\n"
        "    with self.open('wb') as file:\n"
        "        file.write(content[:5]); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.write_bytes = cut\n"
        "replace_file.write_whole(Path(sys.argv[1]), b'0123456789')\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    (left,) = (one for one in tmp_path.iterdir() if one != path)
    assert is_part(left) and left.read_bytes() == b"01234"


# What killed writers leave

#: Has half written a file, says so, and ends it once it is told to.
WRITING = """
import sys
from pathlib import Path
from ichseg.replace_file import replacing

with replacing(Path(sys.argv[1])) as part, part.open("wb") as file:
    file.write(b"01234")
    file.flush()
    print(part, flush=True)
    sys.stdin.readline()
    file.write(b"56789")
"""


def age(path: Path, seconds: float = 3600.0) -> None:
    """Make it look as if it was written so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


@pytest.mark.skipif(os.name == "nt", reason="there a file that is open cannot be deleted at all")
def test_what_a_killed_writer_left_is_swept_and_what_a_running_one_writes_is_not(
    tmp_path: Path,
) -> None:
    line = [sys.executable, "-c", WRITING]
    targets = [tmp_path / "killed.json", tmp_path / "running.json"]
    writers = [
        subprocess.Popen([*line, str(one)], cwd=ROOT, stdin=-1, stdout=-1, text=True)
        for one in targets
    ]
    killed, running = (Path(one.stdout.readline().strip()) for one in writers if one.stdout)
    writers[0].kill()
    writers[0].wait()
    sweep_parts(tmp_path)
    assert killed.exists()  # on a disk that tells of no locks another machine may be writing it
    for part in (killed, running):
        age(part)
    sweep_parts(tmp_path)
    assert not killed.exists() and running.exists()
    writers[1].communicate("go on")
    assert targets[1].read_bytes() == b"0123456789" and list(tmp_path.iterdir()) == [targets[1]]


def test_nothing_is_swept_that_is_not_ours_by_its_whole_name(tmp_path: Path) -> None:
    ours = (f"{PART}7-0123abcd.nii.gz", f"{PART}12345-00000000")
    others = (
        f"{PART}7-0123abcd-and-somebodys-own-words",
        f"{PART}7-ABCD0123.json",
        f"{PART}seven-0123abcd",
        f"{PART}7",
        f"my{PART}7-0123abcd.json",
        "scan-0001.json",
    )
    for name in (*ours, *others):
        (tmp_path / name).write_bytes(b"x")
        age(tmp_path / name)
    (tmp_path / f"{PART}8-0123abcd").mkdir()
    (tmp_path / f"{PART}9-0123abcd").symlink_to(tmp_path / "scan-0001.json")
    for name in (f"{PART}8-0123abcd", f"{PART}9-0123abcd"):
        age(tmp_path / name)
    sweep_parts(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, f"{PART}8-0123abcd", f"{PART}9-0123abcd"}
    sweep_parts(tmp_path / "not there")
