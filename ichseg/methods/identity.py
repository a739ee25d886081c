"""What a mask came from: one identity over all that decides it, for records, for keys of caches and for files.

Two results of one identity on the same scan and the same boxes are the same mask. The processor is not part of it: the
last bits of a float differ between machines, and a mask that differs by a voxel for that is told by its own hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ichseg import __version__
from ichseg.json_fields import RecordError, json_field

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from ichseg.methods.predictor import Predictor, Setting

#: Sources of the package that draw, print or serve what was computed, and decide no voxel and no number.
NOT_COMPUTING = (
    *("__main__.py", "errors.py", "json_fields.py", "replace_file.py"),
    *("archive", "cli", "page", "sample", "files/dicom_sr.py", "files/mesh.py", "files/picture.py"),
    *("files/report.py", "files/report_growth.py", "files/report_pictures.py"),
    *("files/report_style.py", "cohort/report.py", "cohort/agree.py", "cohort/agree_plot.py"),
)


@dataclass(frozen=True)
class Identity:
    """All that decides a mask, besides the scan and its boxes."""

    model: str
    """The model's name; of a folder its last part alone."""
    weights_sha256: Mapping[str, str]
    """{file: sha256} of the weights and of the configuration that they are used by."""
    settings: Mapping[str, Setting]
    """How the model answered: ``refinement``, the refinement's crop, and any step after it."""
    backend: str
    """What computed it, where and how precisely, e.g. "openvino cpu bfloat16"."""
    packages: Mapping[str, str]
    """Versions of the packages that did."""
    code_sha256: str
    """``code_sha256`` of this package. A comment that changes, changes it."""

    @property
    def sha256(self) -> str:
        """One hash over all of it, in hexadecimal."""
        # A browser that keeps a record writes 3.0 as 3, and both are one setting.
        settings = {name: _whole(value) for name, value in self.settings.items()}
        text = json.dumps({**asdict(self), "settings": settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def short(self) -> str:
        """The first twelve digits of ``sha256``: for a file's header, a key, or people."""
        return self.sha256[:12]

    def record(self) -> dict[str, Any]:
        """For a JSON document: the fields and ``sha256``. ``from_record`` reads it."""
        return {**asdict(self), "sha256": self.sha256}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Identity:
        """What ``record`` gave. Raises RecordError where it is not that."""
        where = "its identity"
        found = cls(
            model=json_field(record, "model", "text", where),
            weights_sha256=json_field(record, "weights_sha256", "an object", where),
            settings=json_field(record, "settings", "an object", where),
            backend=json_field(record, "backend", "text", where),
            packages=json_field(record, "packages", "an object", where),
            code_sha256=json_field(record, "code_sha256", "text", where),
        )
        if found.sha256 != record.get("sha256"):
            raise RecordError("its identity's own hash is another")
        return found

    def differences(self, other: Identity) -> list[str]:
        """What differs from another identity, in words, each with this one's value and then the other's."""
        said = []
        for name, mine, theirs in (
            ("settings", self.settings, other.settings),
            ("versions", self.packages, other.packages),
        ):
            keys = sorted({*mine, *theirs})
            found = [(key, mine.get(key), theirs.get(key)) for key in keys]
            changed = [f"{key} {a} and {b}" for key, a, b in found if a != b]
            if changed:
                said.append(f"{name} ({', '.join(changed)})")
        if self.backend != other.backend:
            said.append(f"the back end ({self.backend} and {other.backend})")
        if self.code_sha256 != other.code_sha256:
            said.append(f"the program ({self.code_sha256[:12]} and {other.code_sha256[:12]})")
        return said


def identity_of(
    predictor: Predictor, *, refinement: bool | None = None, **steps: Setting
) -> Identity:
    """The identity of what a predictor answers.

    Args:
        predictor: the model.
        refinement: whether boxes are answered with one; None is the model's own setting.
        steps: settings of what changes its masks afterwards, by name; None is a step that was not taken.

    """
    used = predictor.second_look if refinement is None else refinement
    taken = {name: value for name, value in steps.items() if value is not None}
    return Identity(
        model=PurePath(predictor.name).name,
        weights_sha256=dict(predictor.weights_sha256),
        settings={**predictor.settings, "refinement": used, **taken},
        backend=predictor.computed_by,
        packages=dict(_installed(predictor.packages)),
        code_sha256=code_sha256(),
    )


def _whole(value: Setting) -> Setting:
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def code_sha256() -> str:
    """The hash of this package's sources that compute, the same wherever they are installed.

    Read once a process, when it is first asked for. Where a package is installed without sources, its compiled
    modules stand for them.
    """
    digest = hashlib.sha256(f"ichseg {__version__}\n".encode())
    for name, source in sorted(_sources(resources.files("ichseg"), "")):
        content = source.replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    """(Name below the package, content) of each module that computes."""
    for one in folder.iterdir():
        name = f"{prefix}{one.name}"
        if name in NOT_COMPUTING or one.name == "__pycache__":
            continue
        if one.is_dir():
            yield from _sources(one, f"{name}/")
        elif one.name.endswith((".py", ".pyc")):
            yield name, one.read_bytes()


@cache
def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Their versions; a package that is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
