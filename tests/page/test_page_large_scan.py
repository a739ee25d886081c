"""How much memory it takes to open a large scan, in a process of its own: voxels once, as int16, and little beside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.load import Person, Service
from tests import phantoms

#: 512 x 512 with this many slices is the largest head CT that is met: 0.5 mm apart, with neck and vertex.
LARGEST, QUICK, SIDE, STEP_MM = 600, 80, 512, 0.5
MB = 1 << 20

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")

#: Opens an uploaded scan as the page does, up to the file of its voxels; by how much the peak of memory grew, in MB.
OPENED = """
import sys
from pathlib import Path
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.page.folders import ServerFolder
from ichseg.scan import hounsfield, scale

hounsfield.SAMPLE_VALUES = scale.SAMPLE_VALUES = 1 << 14  # which does not grow with the scan

def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

folder = ServerFolder(Path(sys.argv[1]))
embeddings = Embeddings()
embeddings.plan = lambda *_: None
controller = Controller(folder.uploads, folder=folder, embeddings=embeddings)

def opened(number, paths):
    place = folder.uploads / str(number)  # as Gradio has it
    place.mkdir()
    given = [{"path": str(path.rename(place / path.name)), "name": path.name} for path in paths]
    reply = controller.answer("x", {"ops": [{"op": "open", "id": number, "files": given}]})
    assert reply["error"] is None, reply["error"]
    return reply["scan"]["shape"]

small, large = (sorted(Path(one).iterdir()) for one in sys.argv[2:])
opened(1, small)  # which imports what reads it
Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
before = peak_mb()
print(*opened(2, large), peak_mb() - before)
controller.close()
"""


def slices(count: int) -> npt.NDArray[np.int16]:
    """A head [z, y, x] whose slices are all one, as a view that takes the memory of one."""
    slice_hu = phantoms.speckled_head((3, SIDE, SIDE))[1]
    return np.broadcast_to(slice_hu, (count, SIDE, SIDE))


def save_nifti(folder: Path, count: int) -> Path:
    folder.mkdir()
    affine = np.diag([-0.45, -0.45, STEP_MM, 1.0])
    nib.save(nib.Nifti1Image(slices(count).transpose(2, 1, 0), affine), folder / "scan.nii.gz")
    return folder


def save_series(folder: Path, count: int) -> Path:
    positions = [STEP_MM * k for k in range(count)]
    return phantoms.save_dicom(
        folder, phantoms.dicom_slices(slices(count), positions, (0.45, 0.45))
    )


@pytest.mark.parametrize("save", [save_nifti, pytest.param(save_series, marks=pytest.mark.slow)])
def test_opening_takes_a_scans_voxels_once(
    root: Path, tmp_path: Path, save: Callable[[Path, int], Path]
) -> None:
    """A second copy would not hold the bound, by which the largest scan takes 0.4 GB beside the process."""
    scans = [save(tmp_path / f"{count} slices", count) for count in (8, QUICK)]
    line = [sys.executable, "-c", OPENED, str(tmp_path / "server"), *map(str, scans)]
    *shape, grown_mb = subprocess.check_output(line, cwd=root, text=True).split()
    assert shape == [str(QUICK), str(SIDE), str(SIDE)]
    voxels_mb = QUICK * SIDE * SIDE * 2 / MB
    assert voxels_mb < float(grown_mb) < 8 + 1.35 * voxels_mb


@pytest.mark.slow  # the page with its networks: some 40 s
def test_the_largest_scan_is_opened_in_two_gigabytes(tmp_path: Path) -> None:
    """By the whole server, whose networks then answer a box on it."""
    (scan,) = save_nifti(tmp_path / "given", LARGEST).iterdir()
    service = Service(tmp_path, "app.py")
    try:
        person = Person(service)
        given = {"path": person.upload(scan), "name": scan.name}
        opened = person.ask("open", lane="work", files=[given])
        assert opened["scan"]["shape"] == [LARGEST, SIDE, SIDE]
        with person.http.stream("GET", f"/file={opened['scan']['voxels']}") as voxels:
            sent = sum(map(len, voxels.iter_bytes()))
        assert sent > 1000 * LARGEST
        person.ask("boxes", slice=LARGEST // 2, boxes=[[200, 200, 260, 260]])
        assert service.memory_mb("VmHWM") < 2000
        person.close()
    finally:
        service.process.terminate()
        service.process.wait()
