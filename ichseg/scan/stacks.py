"""Which slices are one stack: kernels, contrast agents, phases and frames of reference under one series UID.

The rules are on words and places alone: nothing reads a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ichseg.scan.lost_slices import holes
from ichseg.scan.series import Traits

SAME_PLACE_MM = 0.01
"""Closer than this along the normal, two slices lie at one place."""

MOST_STACKS = 4
"""Kernels or phases under one series UID that are opened separately; more are a perfusion or other time series."""

_CROWDED = 0.25

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
