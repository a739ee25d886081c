"""The images among DICOM files sorted into series that can be opened, each with the reason where it cannot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pydicom

from ichseg.errors import VolumeError, refusal
from ichseg.scan import formats, intake
from ichseg.scan.dicom_files import (
    CT_CLASSES,
    DICOMDIR,
    Image,
    LeftOut,
    image_type_of,
    read_header,
    read_series_uid,
)
from ichseg.scan.dicom_slices import Slice, decode, fit_slices
from ichseg.scan.dicom_source import direction_columns
from ichseg.scan.formats import InputFile
from ichseg.scan.geometry import display_axes
from ichseg.scan.intake import SERIES_REMEDY
from ichseg.scan.lost_slices import MOST_GAP_MM, Count, Hole, end_warnings, holes
from ichseg.scan.series import preference
from ichseg.scan.series_info import SeriesInfo
from ichseg.scan.stacks import MOST_STACKS, SAME_PLACE_MM, most_at_a_place, stacks

_SAME_DIRECTION = 1e-3
_AXIAL_SERIES = "a scan is an axial CT series of 2 slices or more"

_MOST_COMPARED = 3
"""Pairs of images at one place that are found to differ before the rest of a series is taken to differ, too."""


@dataclass(frozen=True)
class Broken:
    """A damaged file, what to say of it, and the series that it is of, where that can still be read."""

    file: InputFile
    error: VolumeError
    series_uid: str = ""

    @property
    def may_be_a_slice(self) -> bool:
        """Whether it could be one of any series: nothing says of which it is."""
        return not self.series_uid and self.file.kind != "zip"


@dataclass(frozen=True)
class Series:
    """A series for the chooser, and what it is opened from; or, with ``error``, why it is not."""

    info: SeriesInfo
    rank: tuple[int, ...] = ()
    slices: tuple[Slice, ...] = ()
    header: pydicom.Dataset = field(default_factory=pydicom.Dataset)
    holes: tuple[Hole, ...] = ()
    left: tuple[LeftOut, ...] = ()
    ends: tuple[str, ...] = ()
    error: VolumeError | None = None

    def refused(self, error: VolumeError, reason: str) -> Series:
        """The same, which cannot be opened."""
        return replace(self, error=error, info=replace(self.info, refusal=reason))


@dataclass(frozen=True)
class Study:
    """All that was found: the series, the best first, and what is no part of any."""

    name: str
    series: list[Series]
    left: list[LeftOut]
    broken: list[Broken]
    others: int


def study_of(given: intake.Given) -> Study:
    """Every image series among the files, the one to open first."""
    left: list[LeftOut] = []
    broken = [Broken(file, error) for file, error in given.broken]
    images: list[Image] = []
    for file in given.of("dicom"):
        try:
            found = read_header(file)
        except VolumeError as error:
            broken.append(Broken(file, error, read_series_uid(file)))
            continue
        if isinstance(found, Image):
            images.append(found)
        elif found is not None:
            left.append((found, file.name))
    others = given.count - len(images) - len(left) - len(broken)
    if not images:
        raise _no_images(given, left, broken)
    grouped: dict[tuple[str, ...], list[Image]] = {}
    for image in images:
        grouped.setdefault(_group_key(image), []).append(image)
    _join_lone(grouped)
    localizers = [image for image in images if _is_localizer(image)]
    series = [
        _ends_checked(one, [*group, *localizers])
        for number, group in enumerate(grouped.values(), 1)
        for one in _series_of(given.name, group, f"no-uid-{number}", broken)
    ]
    series.sort(key=lambda one: (bool(one.error), one.rank, one.info.number or 0, one.info.key))
    shorts = Counter(one.info.short for one in series)
    named = [
        replace(one, info=replace(one.info, short=one.info.key))
        if shorts[one.info.short] > 1 or not one.info.short
        else one
        for one in series
    ]
    return Study(given.name, named, left, broken, others)


def _no_images(
    given: intake.Given, left: Sequence[LeftOut], broken: Sequence[Broken]
) -> VolumeError:
    """What to say where no DICOM file holds an image."""
    if broken:
        return broken[0].error
    if not left:
        return replace(given, files=[], others=given.count, zips=[], archives=[]).nothing()
    if all(what == DICOMDIR for what, _ in left) and given.count == len(left):
        return refusal(
            given.name,
            "a DICOMDIR is a list of a CD's files, not the files",
            "it was given by itself",
            "give the whole folder that it lies in",
        )
    (note,) = intake.passed_over(left)
    received = f"of its DICOM files none is an image ({note.nameless[len('Passed over: ') : -1]})"
    return refusal(given.name, formats.rule(), received, SERIES_REMEDY)


def _group_key(image: Image) -> tuple[str, ...]:
    """What images of one series share: its UID, or, where an anonymiser took that out, what else there is."""
    uid = image.text("SeriesInstanceUID")
    return (uid,) if uid else _traits_key(image)


def _traits_key(image: Image) -> tuple[str, ...]:
    words = ("StudyInstanceUID", "SeriesNumber", "SeriesDescription", "Modality")
    return "", *map(image.text, words)


def _join_lone(grouped: dict[tuple[str, ...], list[Image]]) -> None:
    """Give images without a series UID to the one series that has one and shares with them what else there is."""
    for key in [key for key in grouped if not key[0]]:
        alike = [
            other
            for other, images in grouped.items()
            if other[0] and _traits_key(images[0]) == key and any(key[2:4])
        ]
        if len(alike) == 1:
            grouped[alike[0]] += grouped.pop(key)


def _is_localizer(image: Image) -> bool:
    return "LOCALIZER" in image_type_of(image) or "SCOUT" in image_type_of(image)


_SCREEN_SAVES = "{} screen save{s}"
_SCREEN_SAVE = re.compile(r"SCREEN ?SAVE|SCREENSAVE|\bICON\b|THUMBNAIL|\bREPORT\b|\bDOSE|PROTOCOL")


def _other_kind(image: Image) -> str:
    """Why an image is no slice of a scan whatever else is in its series, or an empty string."""
    if image.modality != "CT":
        return f"its modality is {image.modality}, not CT"
    if _is_localizer(image):
        return "it is a localizer"
    saved = any(_SCREEN_SAVE.search(part) for part in image_type_of(image))
    return "it is a screen save" if saved else ""


def _aside(image: Image) -> str:
    """What such an image is called in a note."""
    if image.modality != "CT":
        return "{} image{s} of another modality"
    return "{} localizer{s}" if _is_localizer(image) else _SCREEN_SAVES


def _series_of(
    name: str, images: Sequence[Image], fallback_key: str, broken: Sequence[Broken]
) -> list[Series]:
    """The series under one UID: usually one; several where kernels, phases or grids share the UID."""
    bare = Series(_info(images, fallback_key), header=images[0].header)
    if all(_other_kind(image) for image in images):
        return [_refused(name, bare, _other_kind(images[0]))]
    left = [(_aside(image), image.file.name) for image in images if _other_kind(image)]
    images = [image for image in images if not _other_kind(image)]
    if any(image.kind in CT_CLASSES for image in images):  # else an old scan in secondary captures
        captured = [image for image in images if image.kind not in CT_CLASSES]
        left += [(_SCREEN_SAVES, image.file.name) for image in captured]
        images = [image for image in images if image.kind in CT_CLASSES]
    bare = Series(_info(images, fallback_key), header=images[0].header)
    slices, unfit = fit_slices(images)
    if not slices or len(unfit) > len(slices):
        flaw, file = unfit[0]
        alike = sum(one == flaw for one, _ in unfit)
        which = "is an image" if alike == 1 else f"and {alike - 1} more are images"
        return [_refused(name, bare, f"'{file}' {which} {flaw}")]
    grids = _grids(slices)
    whole = [grid for grid in grids if len(grid) > 1] or grids[:1]
    left += [(f"{{}} image{{s}} {flaw}", file) for flaw, file in unfit]
    left += _odd_grids([grid for grid in grids if grid not in whole], whole[0])
    found = []
    for grid in whole:
        title = "" if len(whole) == 1 else f"{grid[0].shape[1]} x {grid[0].shape[0]} pixels"
        found += _stacked(name, bare, grid, title)
    if len(found) > 1:
        found = [_with_key(one, number) for number, one in enumerate(found, 1)]
    found[0] = replace(found[0], left=(*left, *found[0].left))
    return [_complete(name, one, broken) for one in found]


def _info(images: Sequence[Image], fallback_key: str) -> SeriesInfo:
    """What a chooser shows of the images of one series."""
    header = images[0].header
    label = str(header.get("SeriesDescription") or "").strip()
    number = images[0].text("SeriesNumber")
    is_number = bool(re.fullmatch(r"-?[0-9]{1,12}", number))
    return SeriesInfo(
        key=images[0].text("SeriesInstanceUID") or fallback_key,
        number=int(number) if is_number else None,
        short=str(int(number)) if is_number else "",
        label=label or f"{header.get('Modality') or 'DICOM'} series {number}".strip(),
        slices=sum(image.frames for image in images),
        derived=images[0].traits().derived,
    )


def _refused(name: str, one: Series, reason: str, rule: str = "", remedy: str = "") -> Series:
    """A series that is refused for a reason, under the rule of all series or one of its own."""
    received = reason if rule else f"in {series_title(one.info)} {reason}"
    error = refusal(name, rule or _AXIAL_SERIES, received, remedy or SERIES_REMEDY)
    return one.refused(error, reason)


def _grids(slices: Sequence[Slice]) -> list[list[Slice]]:
    """The slices by size, direction and pixel spacing, the grid with most of them first."""
    found: list[list[Slice]] = []
    for one in slices:
        for grid in found:
            if _same_grid(grid[0], one):
                grid.append(one)
                break
        else:
            found.append([one])
    return sorted(found, key=len, reverse=True)


def _same_grid(one: Slice, other: Slice) -> bool:
    return (
        one.shape == other.shape
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=_SAME_DIRECTION)
        and np.allclose(one.spacing, other.spacing, rtol=1e-3, atol=0)
    )


def _odd_grids(grids: Iterable[Sequence[Slice]], main: Sequence[Slice]) -> list[LeftOut]:
    """What to say of single images that are on another grid than the series."""
    left = []
    for one in (one for grid in grids for one in grid):
        what = "of another size" if one.shape != main[0].shape else "at another angle"
        if what != "of another size" and np.allclose(
            one.orientation, main[0].orientation, rtol=0, atol=_SAME_DIRECTION
        ):
            what = "of another pixel spacing"
        left.append((f"{{}} image{{s}} {what}", one.file.name))
    return left


def _stacked(name: str, bare: Series, grid: Sequence[Slice], title: str) -> list[Series]:
    """The stacks on one grid, each checked."""
    if display_axes(direction_columns(grid[0].orientation))[0][0] != 0:
        info = replace(bare.info, slices=len(grid))
        return [
            _refused(name, _titled(replace(bare, info=info), title), "its slices are not axial")
        ]
    ordered = sorted(grid, key=lambda one: one.along_normal_mm)
    kept, left = _without_copies(ordered)
    places = np.array([one.along_normal_mm for one in kept])
    found = stacks([one.traits for one in kept], places)
    if len(found) > MOST_STACKS or most_at_a_place(places) > MOST_STACKS:
        count = most_at_a_place(places)
        info = replace(bare.info, slices=len(kept))
        reason = (
            f"it has up to {count} images at one place, as a perfusion or another time series has"
        )
        return [_refused(name, _titled(replace(bare, info=info), title), reason)]
    series = []
    for stack in found:
        slices = tuple(kept[member] for member in stack.members)
        odd = [("{} image{s} of another reconstruction", kept[one].file.name) for one in stack.odd]
        one = replace(
            bare,
            info=replace(bare.info, slices=len(slices), derived=slices[0].traits.derived),
            slices=slices,
            rank=preference(
                slices[0].traits,
                np.array([each.along_normal_mm for each in slices]),
                slices[0].shape[0] * slices[0].shape[1],
            ),
            left=tuple(left) + tuple(odd),
        )
        series.append(_titled(one, ", ".join(filter(None, (title, stack.title)))))
        left = []
    return series


def _titled(one: Series, title: str) -> Series:
    """A series that shares its UID, with what tells it from the others in its label."""
    if not title:
        return one
    return replace(one, info=replace(one.info, label=f"{one.info.label}, {title}"))


def _with_key(one: Series, number: int) -> Series:
    short = one.info.short and f"{one.info.short}:{number}"
    return replace(one, info=replace(one.info, key=f"{one.info.key}:{number}", short=short))


def _complete(name: str, one: Series, broken: Sequence[Broken]) -> Series:
    """A stack with its lost slices; refused where two slices lie at one place, or too much is lost."""
    if one.error is not None:
        return one
    if len(one.slices) < 2:
        return _refused(name, one, "it has a single slice")
    places = np.array([each.along_normal_mm for each in one.slices])
    gaps = np.diff(places)
    for index in np.flatnonzero(gaps < SAME_PLACE_MM)[:1]:
        pair = f"'{one.slices[index].file.name}' and '{one.slices[index + 1].file.name}'"
        return _refused(
            name,
            one,
            f"2 different slices lie at {places[index]:.1f} mm ({pair})",
            "every slice has a place of its own",
            "give one pass of the scan only",
        )
    lost = holes(gaps, [each.thickness for each in one.slices])
    uid = one.header.get("SeriesInstanceUID", "")
    for damaged in broken:
        if (damaged.series_uid and damaged.series_uid == uid) or (lost and damaged.may_be_a_slice):
            return one.refused(damaged.error, f"'{damaged.file.name}' is damaged")
    for hole in lost:
        if hole.gap_mm > MOST_GAP_MM:
            slices = "1 slice is" if hole.lost == 1 else f"{hole.lost} slices are"
            return _refused(
                name,
                one,
                f"{slices} missing {hole.text}",
                f"the gap that lost slices leave is at most {MOST_GAP_MM:g} mm, for more hides a hematoma",
                "send the series from the archive again, or give another of the study",
            )
    return replace(one, holes=tuple(lost))


def _ends_checked(one: Series, images: Sequence[Image]) -> Series:
    """A series with what is to be said of slices lost at its ends, by the numbers of ``images``: its own and others'.

    What a header promises is looked at in this order: images of the acquisition, slices, images of the series.
    """
    if one.error is not None:
        return one
    files = {id(each.file) for each in one.slices}
    others = (image.number for image in images if id(image.file) not in files)
    elsewhere = frozenset(number for number in others if number is not None)
    promises = [
        {image.count(keyword) for image in images if id(image.file) in files}
        for keyword in ("ImagesInAcquisition", "NumberOfSlices", "NumberOfSeriesRelatedInstances")
    ]
    promised = next((said for (said, *rest) in promises if said and not rest), None)
    count = Count(tuple(each.number for each in one.slices), elsewhere, promised)
    return replace(one, ends=end_warnings(count, one.holes))


def _without_copies(ordered: Sequence[Slice]) -> tuple[list[Slice], list[LeftOut]]:
    """Slices in order of place without those that are there twice: the same pixels at the same place.

    The pixels of two are looked at only where they share a place and all their traits.
    """
    kept: list[Slice] = []
    left: list[LeftOut] = []
    different = 0
    for one in ordered:
        for other in reversed(kept):
            if one.along_normal_mm - other.along_normal_mm >= SAME_PLACE_MM:
                kept.append(one)
                break
            if one.traits != other.traits or different >= _MOST_COMPARED:
                continue
            copy = _copy_of(one, other)
            if copy is None:
                different += 1
                continue
            left.append(("{} file{s} that {are} there twice", copy.file.name))
            if copy is other:
                kept[kept.index(other)] = one
            break
        else:
            kept.append(one)
    return kept, left


def _copy_of(one: Slice, other: Slice) -> Slice | None:
    """Which of two slices at one place is not needed, for both have the same pixels or its own are damaged."""
    if one.file is other.file or not np.allclose(one.position, other.position, rtol=0, atol=1e-3):
        return None
    with one.file.open() as first, other.file.open() as second:
        if first.read() == second.read():
            return one
    try:
        pixels = decode(one)[0][one.frame]
    except VolumeError:
        return one if one.uids == other.uids else None
    try:
        others = decode(other)[0][other.frame]
    except VolumeError:
        return other if one.uids == other.uids else None
    scales = (one.slope, one.intercept) == (other.slope, other.intercept)
    return one if scales and np.array_equal(pixels, others) else None


def series_title(info: SeriesInfo) -> str:
    """A series for people, in the middle of a sentence."""
    number = "" if info.number is None else f"{info.number} "
    return (
        f"series {number}'{info.label}' ({info.slices} {'slice' if info.slices == 1 else 'slices'})"
    )
