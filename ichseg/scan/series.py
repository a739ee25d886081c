"""Which CT series of a study to open first, and what makes one doubtful.

A stroke study has the head without contrast medium in a soft kernel, beside it the same in a bone kernel, thinner, the
angiography, the perfusion, reformats and the neck. The networks learned from the first. The rules here are on words and
places alone: nothing reads a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

USUAL_SPACING_MM = (2.5, 7.5)
"""Slices this far apart are taken before thinner and thicker ones: the networks learned from slices of 5 mm."""

WHOLE_HEAD_MM = 100.0
"""A stack that is longer than this is taken before a part of a head; an adult's brain is 130 mm high and more."""

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
