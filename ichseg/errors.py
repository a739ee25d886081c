"""What a person can put right: every error here is one sentence of rule, value received and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ichseg.scan.volume import SeriesInfo


class InputError(ValueError):
    """Bad input. The text is shown to people as it is, on the page and on the command line."""


class VolumeError(InputError):
    """A scan or a mask that cannot be read, or cannot be written without misplacing voxels.

    Attributes:
        series: the DICOM series that were found where the scan was looked for, each with the reason
            where it cannot be opened; empty where there is no choice.

    """

    def __init__(self, text: str, series: tuple[SeriesInfo, ...] = ()) -> None:
        super().__init__(text)
        self.series = series


class BoxError(InputError):
    """A box that does not lie on the slice it was given for."""


class WeightsError(InputError):
    """A weight file that is absent, or is not the one the manifest promises."""


class LesionError(InputError):
    """A lesion that is not there, that is locked, or that was given a property it cannot have."""


def refusal(name: str, rule: str, received: str, remedy: str) -> VolumeError:
    """One sentence for the person who gave the file ``name``: rule, value received, remedy."""
    return VolumeError(f"{name}: {rule}, but {received}; {remedy}.")
