"""What a chooser of DICOM series is told: of each series, and where none of them was opened."""

from __future__ import annotations

from dataclasses import dataclass

from ichseg.errors import VolumeError


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a DICOM folder, for a chooser.

    Attributes:
        key: what ``read_volume(..., series=key)`` takes, unique among the files given: the Series
            Instance UID, with what tells it from the others where several series share one.
        number: the series number shown at the scanner, or None; its text is taken as a key too.
        label: the series description for people; holds no patient data.
        slices: number of slices.
        derived: whether it was computed from another series (a reformat, say).
        refusal: why it cannot be opened, or an empty string.
        short: the shortest key that means this series alone: its number, where no other has it.

    """

    key: str
    number: int | None
    label: str
    slices: int
    derived: bool = False
    refusal: str = ""
    short: str = ""


class SeriesError(VolumeError):
    """None of the series that were found was opened.

    Attributes:
        series: those series, each with the reason where it cannot be opened.

    """

    def __init__(self, text: str, series: tuple[SeriesInfo, ...]) -> None:
        super().__init__(text)
        self.series = series
