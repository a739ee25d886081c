"""Which CT series of a study to open first, which slices are one stack, and where one is lost.

A stroke study has the head without contrast medium in a soft kernel, beside it the same in a bone kernel, thinner, the
angiography, the perfusion, reformats and the neck. The networks learned from the first. The rules here are on words and
places alone: nothing reads a file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SAME_PLACE_MM = 0.01
"""Closer than this along the normal, two slices lie at one place."""

MOST_GAP_MM = 22.0
"""Widest gap that lost slices may leave: a ball that fits into it has 5.6 mL, less than the 5.8 mL by which two readers
of one scan differ (minimal detectable difference between raters, Rodriguez-Luna 2016). At 5 mm: 3 lost slices."""

MOST_STACKS = 4
"""Kernels or phases under one series UID that are told apart; more are a perfusion or other time series."""

USUAL_SPACING_MM = (2.5, 7.5)
"""Slices this far apart are taken before thinner and thicker ones: the networks learned from slices of 5 mm."""

WHOLE_HEAD_MM = 100.0
"""A stack that is longer than this is taken before a part of a head; an adult's brain is 130 mm high and more."""

_SAME_SPACING = 0.2
_MOST_PARTS = 4
_FEWEST_NUMBERED, _MOST_LOST_AT_END = 4, 3
"""Slices that their numbers say something of, and how many lost at an end that is told from another way to number."""

_CROWDED = 0.25

Item = TypeVar("Item")


@dataclass(frozen=True)
class Traits:
    """What a slice's header says of how it was made; an empty text where it says nothing.

    ``image_type`` is upper case. ``phase`` is the temporal position.
    """

    kernel: str = ""
    contrast_agent: str = ""
    image_type: tuple[str, ...] = ()
    acquisition: str = ""
    phase: str = ""
    kvp: str = ""
    description: str = ""
    body_part: str = ""
    study: str = ""
    frame_of_reference: str = ""

    @property
    def derived(self) -> bool:
        """Whether it was computed from other images."""
        return self.image_type[:1] == ("DERIVED",)


# --- Which one first -------------------------------------------------------------------------------

_SHARP_WORDS = re.compile(
    r"BONE|EDGE|LUNG|SHARP|ULTRA|HIGH ?RES|\bHR\b|\bIAC\b|INNER EAR|KNOCHEN|\bOSS?(EUX|EO|SO)?\b|HUESO|PULM"
)
_SOFT_WORDS = re.compile(
    r"STANDARD|\bSTND?\b|\bSTD\b|SOFT|SMOOTH|BRAIN|CEREB|WEICH|HIRN|\bMOU\b|TISSUE|PARENCH"
)
_NUMBERED_KERNEL = re.compile(r"(?<![A-Z0-9])[ABDHJQSTU][A-Z]?(\d\d)[A-Z]?(?![A-Z0-9])")
"""Siemens: H31s, B20f, J40f, Hr38f, Qr59, U90u. The number rises with sharpness; head bone is H60 and more."""

_CANON_KERNEL = re.compile(r"\bFC ?(\d\d)")
"""Canon and Toshiba: 1 to 29 body and brain, 30 to 39 bone, 40 to 49 soft, 50 to 59 lung, 60s brain, 80s bone."""

_PHILIPS_SOFT = {"A", "B", "UA", "UB", "EA", "EB", "SA", "SB"}
_PHILIPS_SHARP = {"D", "E", "L", "YA", "YB", "YC", "YD", "YE", "UD", "ED"}

_SHARP_FROM = 50


def sharpness(kernel: str, description: str = "") -> int:
    """0 for a soft-tissue kernel, 2 for one of bone or lung, 1 where neither is known.

    The kernel decides; the series description does where the kernel is not known.

    >>> [sharpness(k) for k in ("H31s", "STANDARD", "FC26", "UB", "Hr38f", "J40f")]
    [0, 0, 0, 0, 0, 0]
    >>> [sharpness(k) for k in ("H60s", "BONEPLUS", "FC81", "YB", "Hr60", "B70s", "EDGE")]
    [2, 2, 2, 2, 2, 2, 2]
    >>> sharpness("", "Head 2.5 H60s"), sharpness("?", "head"), sharpness("", "HEAD BONE 1.25")
    (2, 1, 2)
    """
    for text in (kernel.upper().replace("_", " "), description.upper().replace("_", " ")):
        if number := _CANON_KERNEL.search(text):
            return 2 if int(number[1]) // 10 in (3, 5, 8) else 0
        if text.strip() in _PHILIPS_SHARP or _SHARP_WORDS.search(text):
            return 2
        if text.strip() in _PHILIPS_SOFT:
            return 0
        if number := _NUMBERED_KERNEL.search(text):
            return 2 if int(number[1]) >= _SHARP_FROM else 0
        if _SOFT_WORDS.search(text):
            return 0
    return 1


_NO_AGENT = re.compile(
    r"|NO(NE|N|T .*|)|N/?A|W/?O.*|WITHOUT.*|NO .*|OHNE.*|NATIV.*|SANS.*|0|-+|NIL|UNKNOWN|FALSE"
)
_BOTH = re.compile(r"\bW(ITH)?( ?/ ?| AND | ?& ?|_)W/?(ITH)?O(UT)?\b")
_WITHOUT = re.compile(
    r"\bWITHOUT\b|\bW/?O\b|\bNON?[- ]?(CON|CE\b|ENH|IV\b)|\bUNENH|\bNCCT|\bNECT|\bNCT\b|\bOHNE\b|\bO\.? ?KM\b|\bNATIV"
    r"|\bSANS\b|\bSIN\b|\bSENZA\b|\bZONDER\b|\bUTAN\b|\bPLAIN\b|\bIV-|\bC-(?![A-Z])|(?<!\w)-C\b|\bPRE\b"
)
_WITH = re.compile(
    r"CTA\b|CTV\b|\bCTP|ANGIO|PERFU|\bPERF\b|\bCECT\b|\bCE\b|CONTRAST|CONTRASTE|\bKM\b|\bC\+|\+ ?C\b|\bIV\+?\b|ENHANCED"
    r"|\bW/C\b|\bAVEC\b|\bCON\b|\bMDC\b|INJECT|\bPOST(?![- ]?(OP|FOSS|ER))\b|ARTERI|\bART\b|VENO|VENOUS|\bVEN\b"
    r"|DELAY|\bBOLUS|TRACKER|MONITORING|SMART ?PREP|SURE ?START|LOCATOR|MULTI ?PHASE|\bIODINE|\bAV PHASE"
)


def has_contrast(agent: str, description: str) -> bool:
    """Whether a series was taken with contrast medium, by its description, else by its contrast agent.

    The description goes first: many scanners write the study's agent into the plain scan, too.

    >>> has_contrast("Iomeprol 400", "CTA Head 1.25"), has_contrast("", "HEAD +C"), has_contrast("", "Schädel mit KM")
    (True, True, True)
    >>> has_contrast("", "Head 5.0 H31s"), has_contrast("NONE", "HEAD"), has_contrast("Iomeprol", "Kopf ohne KM")
    (False, False, False)
    >>> has_contrast("", "HEAD POST OP"), has_contrast("", "POST FOSSA"), has_contrast("", "HEAD W/O CON")
    (False, False, False)
    """
    text = _BOTH.sub(" ", description.upper().replace("_", " "))
    if _WITHOUT.search(text):
        return False
    return bool(_WITH.search(text)) or not _NO_AGENT.fullmatch(agent.strip().upper())


_PROCESSED = re.compile(
    r"\bMIP\b|\bMINIP\b|\bVRT?\b|\bSSD\b|\b3D\b|PROJECTION|\bMONO ?(\+|E)|\bVNC\b|VIRTUAL|IODINE|\bCBF\b|\bCBV\b"
    r"|\bMTT\b|\bTTP\b|\bTMAX\b|\bTTD\b|PERMEAB|SUBTRACT|\bSUB\b|BONE ?REMOV|\bZ ?EFF|ELECTRON DENSITY|\bRHO\b|COLOU?R"
)


def is_processed(image_type: Sequence[str], description: str) -> bool:
    """Whether the values are no longer those of tissue: projections, maps, subtractions.

    >>> is_processed(("DERIVED", "SECONDARY", "AXIAL", "MIP"), ""), is_processed((), "Head 5.0 H31s")
    (True, False)
    """
    return any(
        _PROCESSED.search(text.upper().replace("_", " ")) for text in (*image_type, description)
    )


_HEAD = re.compile(
    r"HEAD|BRAIN|SKULL|CRAN|KOPF|SCH[AÄ]DEL|HIRN|CEREB|NEURO|TETE|T[EÊ]TE|CABEZA|TESTA|STROKE"
)
_ELSEWHERE = re.compile(
    r"SPINE|\bHWS\b|\bBWS\b|\bLWS\b|CERVI|NECK|HALS|CHEST|THORA|ABD|PELV|BECKEN|LUNG|LIVER|LEBER|HEART|CARDI|AORT"
    r"|EXTREM|SHOULDER|KNEE|\bLEG\b|\bARM\b|FOOT|HAND|ORBIT|SINUS|\bNNH\b|\bFAC(E|IAL)\b|MAXILL|DENTAL|FELSENBEIN"
    r"|TEMPORAL BONE|MASTOID|INNER EAR|\bIAC\b|DOSE|\bCSPINE\b"
)


def is_elsewhere(body_part: str, description: str) -> bool:
    """Whether a series is of another part of the body than the head, by its description, else its body part.

    >>> is_elsewhere("HEAD", "C-SPINE 2.0"), is_elsewhere("CHEST", ""), is_elsewhere("NECK", "CTA Head")
    (True, True, False)
    """
    for text in (description.upper().replace("_", " "), body_part.upper()):
        if _HEAD.search(text):
            return False
        if _ELSEWHERE.search(text):
            return True
    return False


def preference(
    traits: Traits, positions_mm: NDArray[np.float64], pixels: int = 0
) -> tuple[int, ...]:
    """What series are sorted by, the one to open first lowest.

    In this order: of the head; without contrast medium; no projection or map; soft kernel before an unknown one, that
    before a sharp one; straight from the scanner; the whole head; slices about 5 mm apart; then the most pixels a
    slice, and the most slices.
    """
    spacing_mm, extent_mm = spread(positions_mm)
    least, most = USUAL_SPACING_MM
    return (
        int(is_elsewhere(traits.body_part, traits.description)),
        int(has_contrast(traits.contrast_agent, traits.description)),
        int(is_processed(traits.image_type, traits.description)),
        sharpness(traits.kernel, traits.description),
        int(traits.derived),
        int(extent_mm < WHOLE_HEAD_MM),
        int(not least <= spacing_mm <= most),
        -pixels,
        -len(positions_mm),
    )


def spread(positions_mm: NDArray[np.float64]) -> tuple[float, float]:
    """Median distance of neighbouring places and the distance from the first to the last, in mm."""
    if len(positions_mm) < 2:
        return 0.0, 0.0
    places = np.sort(positions_mm)
    return float(np.median(np.diff(places))), float(places[-1] - places[0])


# --- Which slices are one stack --------------------------------------------------------------------

ALWAYS_APART: dict[str, str] = {"kernel": "kernel {}", "contrast_agent": "contrast medium '{}'"}
"""Traits by which slices that overlap are different series, whatever their places; and how the part is called."""

APART_WHERE_CROWDED: dict[str, str] = {
    "phase": "phase {}",
    "acquisition": "acquisition {}",
    "image_type": "{}",
    "kvp": "{} kV",
    "description": "{}",
}
"""Traits that may differ from slice to slice of one stack; they tell stacks apart only where slices crowd a place."""


@dataclass(frozen=True)
class Stack:
    """Slices of one series, as numbers into the list that was given, and what tells them from the others of it."""

    members: tuple[int, ...]
    title: str = ""
    odd: tuple[int, ...] = field(default=(), compare=False)
    """Single slices that differ from the stack at one of its places."""


def stacks(traits: Sequence[Traits], positions_mm: NDArray[np.float64]) -> list[Stack]:
    """Tell apart the stacks under one series UID: kernels, contrast agents, phases, acquisitions.

    A stack whose slices all have places of their own is left whole unless two kernels or agents interleave, for
    step-and-shoot scans count every slice an acquisition. Where no trait helps, slices still share their places.
    Places in two frames of reference are apart, too (``_by_frame_of_reference``).
    """
    found = _apart(tuple(range(len(traits))), traits, positions_mm, "")
    return [part for stack in found for part in _by_frame_of_reference(stack, traits, positions_mm)]


def _by_frame_of_reference(
    stack: Stack, traits: Sequence[Traits], positions_mm: NDArray[np.float64]
) -> list[Stack]:
    """A stack by frame of reference: as it is, or one stack a frame.

    Places in two frames need have nothing to do with each other (DICOM PS3.3, C.7.4.1). Some exports and anonymisers
    write a new one for each image, or for a part of a stack. Slices stay together, and ``frame_warnings`` says so,
    where all of them make one stack without a hole that no frame makes by itself.
    """
    named = [traits[one].frame_of_reference for one in stack.members]
    stated = {name: group for name, group in _grouped(stack.members, named).items() if name}
    places = [positions_mm[list(group)] for group in stated.values()]
    if len(stated) < 2 or max(map(len, places)) < 2:
        return [stack]
    largest = max(places, key=len)
    if _is_whole(positions_mm[list(stack.members)]) and not (
        _overlap(places) and _is_whole(largest)
    ):
        return [stack]
    groups = sorted(stated.values(), key=lambda group: float(positions_mm[list(group)].min()))
    unstated = tuple(one for one in stack.members if not traits[one].frame_of_reference)
    titles = [f"frame of reference {number}" for number in range(1, len(groups) + 1)]
    found = [
        *zip(groups, titles, strict=True),
        *([(unstated, "no frame of reference")] if unstated else []),
    ]
    return [
        Stack(
            group, f"{stack.title}, {title}" if stack.title else title, stack.odd if not at else ()
        )
        for at, (group, title) in enumerate(found)
    ]


def _is_whole(positions_mm: NDArray[np.float64]) -> bool:
    """Whether slices at these places are one stack: none crowds another, and none is lost."""
    gaps = np.diff(np.sort(positions_mm))
    return not crowded(positions_mm) and not holes(gaps, [None] * len(positions_mm))


def _apart(
    members: tuple[int, ...],
    traits: Sequence[Traits],
    positions_mm: NDArray[np.float64],
    title: str,
) -> list[Stack]:
    is_crowded = crowded(positions_mm[list(members)])
    names = {**ALWAYS_APART, **(APART_WHERE_CROWDED if is_crowded else {})}
    for name, text in names.items():
        groups = _grouped(members, [getattr(traits[one], name) for one in members])
        if len(groups) < 2:
            continue
        whole = {value: group for value, group in groups.items() if len(group) > 1}
        odd = tuple(one for group in groups.values() if len(group) < 2 for one in group)
        places = [positions_mm[list(group)] for group in whole.values()]
        if len(whole) == 1 and is_crowded and len(odd) < len(members) / 2:
            (kept,) = whole.values()
            (rest,) = _apart(kept, traits, positions_mm, title)[:1] or [Stack(kept, title)]
            if not crowded(positions_mm[list(kept)]):
                return [Stack(rest.members, title, odd)]
            continue
        if odd or not _overlap(places) or (is_crowded and not _helps(members, whole, positions_mm)):
            continue
        found = []
        for value, group in whole.items():
            shown = text.format(" ".join(value) if isinstance(value, tuple) else value or "none")
            found += _apart(group, traits, positions_mm, f"{title}, {shown}" if title else shown)
        return found
    return [Stack(members, title)]


def _grouped(
    members: Sequence[int], values: Sequence[Hashable]
) -> Mapping[Hashable, tuple[int, ...]]:
    groups: dict[Hashable, list[int]] = {}
    for one, value in zip(members, values, strict=True):
        groups.setdefault(value, []).append(one)
    return {value: tuple(group) for value, group in groups.items()}


def _overlap(places: Sequence[NDArray[np.float64]]) -> bool:
    """Whether two of the groups take up a common range."""
    ranges = sorted((float(group.min()), float(group.max())) for group in places)
    return any(low < high for (_, high), (low, _) in itertools.pairwise(ranges))


def _helps(
    members: tuple[int, ...],
    groups: Mapping[Hashable, tuple[int, ...]],
    positions_mm: NDArray[np.float64],
) -> bool:
    """Whether fewer slices crowd a place in the groups than in all."""
    before = most_at_a_place(positions_mm[list(members)])
    if before == 1:  # crowded by small steps: they are to be gone
        return not any(crowded(positions_mm[list(group)]) for group in groups.values())
    return max(most_at_a_place(positions_mm[list(group)]) for group in groups.values()) < before


def most_at_a_place(positions_mm: NDArray[np.float64]) -> int:
    """Largest number of slices within SAME_PLACE_MM of their neighbours.

    >>> most_at_a_place(np.array([0.0, 5.0, 5.001, 10.0, 5.0]))
    3
    """
    same = np.diff(np.sort(positions_mm)) < SAME_PLACE_MM
    most = run = 1
    for one in same:
        run = run + 1 if one else 1
        most = max(most, run)
    return most


def crowded(positions_mm: NDArray[np.float64]) -> bool:
    """Whether slices share a place, or come in pairs that are much closer than the pairs are to each other.

    >>> crowded(np.arange(10) * 5.0), crowded(np.array([0, 5, 5, 10.0]))
    (False, True)
    >>> crowded(np.sort(np.concatenate([np.arange(10) * 5.0, np.arange(10) * 5.0 + 0.4])))  # two passes, a little off
    True
    >>> crowded(np.array([0.0, 4, 8, 12, 13, 20, 27]))  # two stacks with a step
    False
    """
    gaps = np.diff(np.sort(positions_mm))
    if (gaps < SAME_PLACE_MM).any():
        return True
    if len(gaps) < 4:
        return False
    pairs = gaps[:-1] + gaps[1:]
    close = np.minimum(gaps[:-1], gaps[1:]) < _CROWDED * pairs
    return float(close.mean()) > 2 / 3


# --- Lost slices -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hole:
    """A gap where slices are lost: after slice ``index`` (from 0), how wide, and the spacing around it, in mm."""

    index: int
    gap_mm: float
    spacing_mm: float

    @property
    def lost(self) -> int:
        """About how many slices are lost, one at least."""
        return max(1, round(self.gap_mm / self.spacing_mm) - 1)

    @property
    def text(self) -> str:
        """The place and the widths, for people, who count slices from 1."""
        return (
            f"between slices {self.index + 1} and {self.index + 2}"
            f" ({self.gap_mm:.1f} mm where {self.spacing_mm:.1f} mm is usual)"
        )


def holes(gaps_mm: NDArray[np.float64], thickness_mm: Sequence[float | None]) -> list[Hole]:
    """The gaps where slices are lost.

    A hole is a gap of about 2, 3, ... times the spacing around it, or a single one of 1.5 times and more of both its
    neighbours. Series in two stacks, such as 5 mm through the skull base and 10 mm above, are whole all the same. What
    tells them apart: a hole lies between gaps of one spacing, while a second stack goes on to the end of the series. At
    an end, 1 or 2 wide gaps are a hole unless their slices are thicker as well.
    """
    runs: list[tuple[int, int, float]] = []  # first gap, number of gaps, spacing
    for index, gap in enumerate(gaps_mm):
        if runs and abs(gap - runs[-1][2]) <= _SAME_SPACING * min(gap, runs[-1][2]):
            start, count, spacing = runs[-1]
            runs[-1] = start, count + 1, (spacing * count + gap) / (count + 1)
        else:
            runs.append((index, 1, float(gap)))
    found = []
    for place, (start, count, spacing) in enumerate(runs):
        beside = runs[max(place - 1, 0) : place] + runs[place + 1 : place + 2]
        around = [one for _, _, one in beside] or [spacing]
        at_end, evidence = len(beside) == 1, sum(number for _, number, _ in beside)
        if count == 1 and not at_end and spacing >= 1.5 * max(around):
            found.append(Hole(start, float(gaps_mm[start]), max(around)))
            continue
        regular = float(np.mean(around))
        alike = all(abs(one - regular) <= _SAME_SPACING * regular for one in around)
        multiple = spacing / regular
        if multiple < 1.5 or abs(multiple - round(multiple)) > _SAME_SPACING or not alike:
            continue
        if at_end and (
            count > 2 or evidence < 2 or _thicker(thickness_mm, start, count, place == 0)
        ):
            continue
        found += [
            Hole(index, float(gaps_mm[index]), regular) for index in range(start, start + count)
        ]
    return found


def _thicker(thickness_mm: Sequence[float | None], start: int, count: int, first: bool) -> bool:
    """Whether the slices at the outer end of a run of gaps are thicker than those next to it."""
    outer = thickness_mm[0 if first else -1]
    inner = thickness_mm[start + count if first else start]
    return outer is not None and inner is not None and outer > 1.2 * inner


def frame_warnings(traits: Sequence[Traits]) -> tuple[str, ...]:
    """What to say of a stack, in order of place, that states several frames of reference."""
    named = [one.frame_of_reference for one in traits]
    frames = len({one for one in named if one})
    if frames < 2:
        return ()
    runs = [len(list(run)) for _, run in itertools.groupby(named)]
    ends = np.cumsum(runs)
    parts = [
        f"{end - run + 1} to {end}" if run > 1 else f"{end}"
        for run, end in zip(runs, ends, strict=True)
    ]
    where = f" (slices {'; '.join(parts)})" if len(parts) <= _MOST_PARTS else ""
    return (
        f"The slices state {frames} frames of reference{where}, though they lie as one stack: that the head lay alike"
        " in all of them is not said, and a volume that reaches across is in doubt.",
    )


@dataclass(frozen=True)
class Count:
    """What a series says of how many images it has.

    Attributes:
        numbers: InstanceNumber of each slice of a stack, in order of place; None where there is none.
        elsewhere: those of other images of the series, and of the study's localizers.
        promised: how many images the series, or the acquisition, is said to have; None where nothing says it.

    """

    numbers: tuple[int | None, ...]
    elsewhere: frozenset[int] = frozenset()
    promised: int | None = None


def end_warnings(count: Count, found: Iterable[Hole]) -> tuple[str, ...]:
    """What to say where the images' numbers, or what the header counts, tell of a slice lost at an end.

    Only numbers that rise or fall by 1 with the slices' places tell of it, but for the holes that are ``found``.
    """
    numbers = [one for one in count.numbers if one is not None]
    here, lost_within = len(numbers), sum(hole.lost for hole in found)
    if here < len(count.numbers) or here < _FEWEST_NUMBERED:
        return ()
    first, last = min(numbers), max(numbers)
    rising = numbers == sorted(numbers)
    in_order = rising or numbers == sorted(numbers, reverse=True)
    if not in_order or len({*numbers}) < here or last - first + 1 - here != lost_within:
        return ()
    before = [one for one in range(1, first) if one not in count.elsewhere]
    said = f"the images are numbered from {first} on"
    lost, at_first = len(before), True
    if count.promised is not None:
        total = here + lost_within + sum(first > one or one > last for one in count.elsewhere)
        lost, at_first = count.promised - total, count.promised - total <= len(before)
        said = f"the header counts {count.promised} images"
    if not 0 < lost <= _MOST_LOST_AT_END:
        return ()
    where = "below slice 1" if at_first == rising else f"above slice {here}"
    lacking = "1 image" if lost == 1 else f"{lost} images"
    return (
        f"{lacking} may be missing {where}, for {said} and {here} are here: blood there is not counted.",
    )


def hole_warnings(found: Iterable[Hole]) -> tuple[str, ...]:
    """What to say of lost slices that are few enough for the rest to be measured."""
    found = list(found)
    if not found:
        return ()
    lost = sum(hole.lost for hole in found)
    places = "; ".join(hole.text for hole in found[:4]) + ("; and more" if len(found) > 4 else "")
    count = "1 slice is" if lost == 1 else f"{lost} slices are"
    return (
        f"{count} missing {places}. Blood there is counted as on the neighbouring slices, each of which stands for"
        " half of the gap.",
    )
