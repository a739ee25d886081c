"""One row of the table of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ichseg.errors import InputError

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor


@dataclass(frozen=True)
class Method:
    """A method as the page and the command line show it, and what loads it."""

    name: str
    title: str
    summary: str
    load: Loader
    """Gives the ready predictor."""
    weights: tuple[str, ...] = ()
    """Entries of weights/manifest.json that it needs."""
    takes_box: bool = True
    """As Predictor.takes_box: False for a method that finds blood on the whole slice and is cut to the box."""
    takes_edge: bool = False
    """Whether the edge at half height (``marks.edge``) is drawn on its masks."""
    shown_beside: str = ""
    """Which method it is compared with where it is the default; one without is never the default."""
    colour: str = "#d7dde3"
    """#RRGGBB: what is this method's on the page and in pictures; none is a lesion's (``marks.lesion.PALETTE``)."""

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, each part 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


#: Called with the row, a device ("auto", "cpu" or "cuda") and a name of ``backends.BACKENDS``.
Loader: TypeAlias = Callable[[Method, str, str], "Predictor"]


def refuse_openvino(method: Method, backend: str) -> None:
    """Raise InputError where OpenVINO is asked for a method that it does not run."""
    if backend == "openvino":
        raise InputError(
            f"Back end 'openvino' runs LiteMedSAM and its adapters; got model '{method.name}'; use 'auto' or 'torch'."
        )
