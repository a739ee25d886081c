"""What a lesion can be, the one table of types, and what a lesion is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ichseg.errors import LesionError


@dataclass(frozen=True)
class Code:
    """A concept of SNOMED CT."""

    value: str
    meaning: str


HEMORRHAGE = Code("50960005", "Hemorrhage")
_BRAIN = Code("12738006", "Brain")
_INTRACRANIAL = Code("1101003", "Intracranial")


@dataclass(frozen=True)
class LesionType:
    """One row of TYPES: all that the program goes by for a type of lesion."""

    name: str
    """What masks, records and the command line call it."""
    title: str
    """In full, for people."""
    code: Code
    """The segmented property type of a DICOM-SEG and of 3D Slicer."""
    region: Code
    """The anatomic region beside it."""
    region_decides: bool = False
    """Whether a file's segment is of this type only with the region, for the code alone says too little."""
    is_blood: bool = True
    """Whether its voxels count in a hematoma's millilitres."""
    is_parenchymal: bool = False
    """Whether it is the blood in the brain's tissue, which growth and the bedside scores ask for."""
    is_ventricular: bool = False
    """Whether it is blood in the ventricles, which a growth counts apart."""
    usual_label: int | None = None
    """Its label in masks that say nothing of their labels (``files.labels``)."""
    also: tuple[str, ...] = ()
    """What else a file may call it."""

    @property
    def shown(self) -> str:
        """What a list for people calls it: an abbreviation as it is, else the title.

        >>> TYPES["IVH"].shown, TYPES["oedema"].shown
        ('IVH', 'Perihematomal oedema')
        """
        return self.name if self.name.isupper() else self.title[0].upper() + self.title[1:]

    @property
    def short(self) -> str:
        """The title where it is plain that blood is meant.

        >>> TYPES["SDH"].short
        'subdural'
        """
        return self.title.removesuffix(" hemorrhage")


#: The type of a lesion of which nobody said what it is.
UNSPECIFIED = "unspecified"

_ROWS = (
    LesionType(
        UNSPECIFIED, "not specified", Code("1386000", "Intracranial hemorrhage"), _INTRACRANIAL
    ),
    LesionType(
        "IPH",
        "intraparenchymal hemorrhage",
        Code("274100004", "Cerebral hemorrhage"),
        _BRAIN,
        is_parenchymal=True,
        usual_label=1,
    ),
    LesionType(
        "IVH",
        "intraventricular hemorrhage",
        HEMORRHAGE,
        Code("35764002", "Brain ventricle"),
        region_decides=True,
        is_ventricular=True,
        usual_label=2,
    ),
    LesionType(
        "SDH",
        "subdural hemorrhage",
        Code("35486000", "Subdural intracranial hemorrhage"),
        _INTRACRANIAL,
    ),
    LesionType(
        "EDH",
        "epidural hemorrhage",
        Code("82999001", "Epidural intracranial hemorrhage"),
        _INTRACRANIAL,
    ),
    LesionType(
        "SAH",
        "subarachnoid hemorrhage",
        Code("21454007", "Subarachnoid intracranial hemorrhage"),
        _INTRACRANIAL,
    ),
    LesionType(
        "oedema",
        "perihematomal oedema",
        Code("79654002", "Edema"),
        _BRAIN,
        is_blood=False,
        also=("edema",),
    ),
)

TYPES: dict[str, LesionType] = {row.name: row for row in _ROWS}
"""THE table of types, in the order in which they are offered. A new type is one row.

Hemorrhage, edema, the regions and 1386000 are in DICOM PS3.16's own tables (CID 7151, 7153, 7159, as pydicom has
them). 274100004 and 21454007 were read in FHIR value sets for stroke, 35486000 and 82999001 in OHDSI's vocabulary. For
intraventricular blood no code could be confirmed, so it is a hemorrhage of the brain's ventricles, in two codes.
"""


def type_named(text: str) -> str | None:
    """The type that a text names, by its name, title or another of its names, in capitals or not; None for none.

    >>> type_named("sdh"), type_named(" Edema "), type_named("tumour")
    ('SDH', 'oedema', None)
    """
    wanted = text.strip().lower()
    for row in TYPES.values():
        if wanted in (name.lower() for name in (row.name, row.title, *row.also)):
            return row.name
    return None


#: Lesion colours, in turn: distinguishable with any colour vision, and bright enough for a dark image. The palette of
#: Okabe and Ito (Color Universal Design, 2008) without its black; its dark blue comes last.
PALETTE = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00", "#0072B2")

#: A lesion's id is its label in a uint8 mask.
MAX_LESIONS = 255
MAX_NAME = 40


@dataclass(frozen=True)
class Lesion:
    """One lesion: its label in the mask, and how it is shown. Raises LesionError for what it cannot be.

    >>> Lesion(2, "Left ventricle", type="IVH").colour
    '#56B4E9'
    """

    id: int
    """Its label, 1 to 255."""
    name: str = ""
    """For people, one line of at most 40 characters; "Lesion 2" unless given."""
    type: str = UNSPECIFIED
    """One of TYPES."""
    colour: str = ""
    """#RRGGBB; from PALETTE, by id, unless given."""
    locked: bool = False
    """Whether its voxels are kept as they are."""
    visible: bool = True
    """Whether it is shown. Volumes and files hold it either way."""

    def __post_init__(self) -> None:
        if not 1 <= self.id <= MAX_LESIONS:
            raise LesionError(
                f"A lesion's number is 1 to {MAX_LESIONS}; got {self.id}; remove one that is not needed."
            )
        # A frozen dataclass sets its own defaults this way.
        object.__setattr__(self, "name", self.name.strip() or f"Lesion {self.id}")
        object.__setattr__(self, "colour", self.colour or PALETTE[(self.id - 1) % len(PALETTE)])
        if len(self.name) > MAX_NAME or not self.name.isprintable():
            raise LesionError(
                f"A lesion's name is one line of at most {MAX_NAME} characters; got "
                f"{self.name[: MAX_NAME + 1]!r}; shorten it."
            )
        if self.type not in TYPES:
            raise LesionError(
                f"A lesion's type is one of {', '.join(TYPES)}; got '{self.type}'; choose one of them."
            )
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", self.colour):
            raise LesionError(
                f"A lesion's colour is #RRGGBB; got '{self.colour}'; give e.g. {PALETTE[0]}."
            )

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, each part 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue

    @property
    def is_blood(self) -> bool:
        """Whether its voxels count in a hematoma's millilitres: oedema's do not."""
        return TYPES[self.type].is_blood
