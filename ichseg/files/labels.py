"""What the labels of masks stand for: as the masks themselves say, then as a person says, then by a default.

Labels are never renumbered. What contradicts is refused, and a default is said in a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ichseg.errors import InputError
from ichseg.files.mask import LabelledMask
from ichseg.marks.lesion import MAX_LESIONS, TYPES, UNSPECIFIED, Lesion


def roles(count: int) -> list[str]:
    """What the scans of one person are called in sentences, the baseline first.

    >>> roles(2), roles(3)
    (['baseline', 'follow-up'], ['baseline', 'follow-up (scan 2)', 'follow-up (scan 3)'])
    """
    if count < 3:
        return ["baseline", "follow-up"][:count]
    return ["baseline", *(f"follow-up (scan {number})" for number in range(2, count + 1))]


def usual_types() -> dict[int, str]:
    """The last resort: what labels 1 and 2 are in masks that have both, where nobody says what they are."""
    labelled = {row.usual_label: row.name for row in TYPES.values()}
    return {label: labelled[label] for label in sorted(filter(None, labelled))}


def types_of_labels(texts: Iterable[str], option: str = "--label") -> dict[int, str]:
    """Types by label from texts like "3=SDH". Raises InputError for another form, and for a label with two types.

    ``option`` is what takes them, for the text of an error.

    >>> types_of_labels(["1=IPH", "4=sdh"])
    {1: 'IPH', 4: 'SDH'}
    """
    types: dict[int, str] = {}
    for text in texts:
        number, _, kind = (part.strip() for part in text.partition("="))
        named = {name.lower(): name for name in TYPES}.get(kind.lower())
        digits = number.isascii() and number.isdecimal()
        if named is None or not digits or not 1 <= int(number) <= MAX_LESIONS:
            raise InputError(
                f"A label is K=TYPE with K from 1 to {MAX_LESIONS} and TYPE one of {', '.join(TYPES)}; got '{text}'; "
                f"give e.g. {option} 1=IPH {option} 2=IVH."
            )
        if types.setdefault(int(number), named) != named:
            raise InputError(
                f"A label has one type; got {types[int(number)]} and {named} for label {number}; give one of them."
            )
    return types


def with_types(
    masks: Sequence[LabelledMask], said: Sequence[Mapping[int, str]]
) -> list[LabelledMask]:
    """The masks of one scan, or of a baseline and its follow-ups, with a lesion for each label.

    Args:
        masks: as they were read, with what they say of their own labels.
        said: for each mask, types by label as a person says. They complete what a mask leaves unspecified.

    Returns:
        The same masks: ``lesions`` has each label that is there, ``notes`` says where a default was used.

    Raises:
        InputError: a label that nobody says the type of where there are several; a type that differs from the mask's
            own; a default that another mask speaks against.

    """
    called = roles(len(masks))
    known = [
        _known(mask, types, role) for mask, types, role in zip(masks, said, called, strict=True)
    ]
    types_if_unsaid = usual_types()
    usual = any(
        _present(mask) == [*types_if_unsaid]
        and {k: types.get(k, usual) for k, usual in types_if_unsaid.items()} == types_if_unsaid
        for mask, types in zip(masks, _types(known), strict=True)
    )
    out = []
    for at, (mask, lesions) in enumerate(zip(masks, known, strict=True)):
        if lesions is not None or not _present(mask):
            out.append(replace(mask, lesions=tuple(lesions or ())))
            continue
        found, note = _default(_present(mask), usual, called[at])
        for other, types in enumerate(_types(known)):
            if other != at:
                _check_default(found, types, called[at], called[other])
        out.append(replace(mask, lesions=found, notes=(*mask.notes, note)))
    return out


def with_usual_types(mask: LabelledMask) -> LabelledMask:
    """A mask by itself, for a page that shows each lesion's type and lets a person change it.

    Labels 1 and 2 that nobody says the type of are taken for what ``with_types`` takes them for; all others stay as
    they are.
    """
    if mask.lesions or _present(mask) != [*usual_types()]:
        return mask
    lesions, note = _usual([*usual_types()], "mask", "the list of lesions changes it")
    return replace(mask, lesions=lesions, notes=(*mask.notes, note))


def _present(mask: LabelledMask) -> list[int]:
    return [int(value) for value in np.unique(mask.labels_zyx) if value]


def _types(known: Sequence[Sequence[Lesion] | None]) -> list[dict[int, str]]:
    return [{lesion.id: lesion.type for lesion in lesions or ()} for lesions in known]


def _known(mask: LabelledMask, said: Mapping[int, str], role: str) -> list[Lesion] | None:
    """The lesions of a mask as itself and a person say; None where neither says anything."""
    present = _present(mask)
    own = {lesion.id: lesion for lesion in mask.lesions}
    if not own and not said:
        return None
    for k, type_ in said.items():
        was = own[k].type if k in own else UNSPECIFIED
        if was not in (UNSPECIFIED, type_):
            raise InputError(
                f"A label is what the mask itself says, or what --label says, and the two agree; label {k} of the "
                f"{role} is {was} in the mask's own list and {type_} by --label; leave --label out, or correct the "
                "list."
            )
        if k in own or k in present:
            own[k] = replace(own[k], type=type_) if k in own else Lesion(k, type=type_)
    if untold := [k for k in present if k not in own]:
        raise InputError(
            f"A type is said for each label of a mask, or for none; the mask of the {role} has "
            f"{', '.join(map(str, present))}, and nothing says what {', '.join(map(str, untold))} is; add e.g. --label "
            f"{untold[0]}=SDH."
        )
    return [own[k] for k in sorted(own)]


def _default(present: Sequence[int], usual: bool, role: str) -> tuple[tuple[Lesion, ...], str]:
    """The lesions of a mask of which nobody said anything, with a note that says so."""
    if usual and set(present) <= usual_types().keys():
        return _usual(present, role, _REMEDY)
    if len(present) > 1:
        raise InputError(
            f"Labels that nobody says the type of are one, or 1 for IPH and 2 for IVH; the mask of the {role} has "
            f"{', '.join(map(str, present))}; say what they are, e.g. --label {present[-1]}=SDH."
        )
    note = f"Nothing says what type of blood label {present[0]} of the {role} is ({_REMEDY})."
    return (Lesion(present[0]),), note


def _usual(present: Sequence[int], whose: str, remedy: str) -> tuple[tuple[Lesion, ...], str]:
    """Lesions of the usual types, with a note that says so."""
    types = usual_types()
    taken = ", ".join(f"{k} {TYPES[types[k]].title}" for k in present)
    note = (
        f"Nothing says what the labels of the {whose} are; they are taken for {taken} ({remedy})."
    )
    return tuple(Lesion(k, type=types[k]) for k in present), note


_REMEDY = "--label K=TYPE says it"


def _changes_the_count(lesion_type: str) -> bool:
    """Whether a type changes which blood a growth counts, so that no default may stand in for it."""
    return TYPES[lesion_type].is_ventricular or not TYPES[lesion_type].is_blood


def _check_default(
    found: Sequence[Lesion], other: Mapping[int, str], role: str, other_role: str
) -> None:
    """Refuse a default where the other mask says something else of the same label that matters."""
    for lesion in found:
        type_ = other.get(lesion.id, lesion.type)
        if type_ != lesion.type and (lesion.type != UNSPECIFIED or _changes_the_count(type_)):
            raise InputError(
                f"Where one mask says what its labels are, the other's are not guessed against it; label {lesion.id} "
                f"is {type_} on the {other_role}, and nothing says what it is on the {role}; give --label or "
                f"--followup-label, e.g. {lesion.id}={type_}."
            )
