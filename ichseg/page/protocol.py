"""How a message of the page's script becomes a dataclass: its types, ranges, lengths and names are checked here.

A panel declares a dataclass for each operation that it answers, from the bounded types below. ``parse`` makes one of
what came, or raises an InputError of one sentence: rule, value received, remedy.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from ichseg.errors import InputError

Role = Literal["baseline", "followup"]
Text = Annotated[str, Field(max_length=1000)]
SliceIndex = Annotated[int, Field(ge=0, le=1_000_000)]
LesionId = Annotated[int, Field(ge=1, le=1_000_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
#: Native pixels of a slice; a stroke may leave the slice.
Pixel = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Point = Annotated[list[Pixel], Field(min_length=2, max_length=2)]
#: The ends of a line: x0, y0, x1, y1.
Ends = Annotated[list[Pixel], Field(min_length=4, max_length=4)]
HURange = Annotated[list[Number], Field(min_length=2, max_length=2)]
#: A number that rises from operation to operation, as far as a script counts exactly.
Counter = Annotated[int, Field(ge=0, le=2**53)]

#: The most operations of one message.
MAX_OPERATIONS = 10_000


@dataclass(frozen=True)
class File:
    """An uploaded file: where the upload route put it, and what the person's own is called."""

    path: Annotated[str, Field(max_length=4096)]
    name: Text


Files = Annotated[list[File], Field(max_length=100_000)]


@dataclass(frozen=True)
class Message:
    """What an event of the page brings; operations and wishes are parsed one by one (``Head``, a panel's dataclass)."""

    case: Text | None = None
    """The token of the scan on screen."""
    slice: SliceIndex = 0
    """The slice on screen."""
    busy: bool = False
    """Whether the person has begun to draw."""
    cancel: bool = False
    """Whether what is under way is to end."""
    ops: Annotated[list[dict[str, Any]], Field(max_length=MAX_OPERATIONS)] = field(
        default_factory=list
    )
    aside: dict[str, Any] | None = None


@dataclass(frozen=True)
class Head:
    """What every operation has."""

    id: Counter
    op: Text
    case: Text | None = None
    """The token of the scan that was on screen when it was asked for; the message's unless given."""


@dataclass(frozen=True)
class Aside:
    """What every request in passing has: the slice to refine, and the one on screen."""

    slice: SliceIndex
    at: SliceIndex | None = None


@dataclass(frozen=True)
class Nothing:
    """An operation without fields."""


Kind = TypeVar("Kind")


def parse(
    kind: type[Kind],
    given: Any,
    what: str,
    remedy: str = "correct it, or save the session and reload the page",
) -> Kind:
    """Make a dataclass (or a plain type) of what came; keys that it does not know are left out.

    ``what`` is what people are told it is, such as "the operation 'boxes'". Raises InputError.
    """
    try:
        made: Kind = _adapter(kind).validate_python(given)  # type: ignore[arg-type]
        return made
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = _place(first["loc"], given)
    name = f"'{place}' of {what}" if place else what[0].upper() + what[1:]
    got = "nothing" if first["type"].startswith("missing") else _shown(first["input"])
    raise InputError(f"{name} {_rule(first)}; got {got}; {remedy}.")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _place(loc: tuple[int | str, ...], given: Any) -> str:
    """Where in a message something is wrong; pydantic's place goes on with the kinds that the value was tried as."""
    parts: list[str] = []
    for part in loc:
        if isinstance(given, Mapping) and (part in given or not parts):
            given = given.get(part)
        elif isinstance(given, list | tuple) and isinstance(part, int) and part < len(given):
            given = given[part]
        else:
            break
        parts.append(str(part)[:40])
    return ".".join(parts)


#: What a value has to be, by pydantic's types of errors; what is not listed is told in pydantic's own words.
_RULES = {
    "bool": "is true or false",
    "dataclass": "is an object",
    "dict": "is an object",
    "finite": "is a finite number",
    "float": "is a number",
    "int": "is a whole number",
    "list": "is a list",
    "missing": "is required",
    "string": "is text",
}
_BOUNDS = {
    "greater_than": "is more than {gt:g}",
    "greater_than_equal": "is {ge:g} or more",
    "less_than": "is less than {lt:g}",
    "less_than_equal": "is {le:g} or less",
    "literal_error": "is one of {expected}",
    "string_too_long": "is text of at most {max_length} characters",
    "too_long": "has at most {max_length} items",
    "too_short": "has at least {min_length} items",
}


def _rule(error: Any) -> str:
    kind: str = error["type"]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**error["ctx"])
    return _RULES.get(kind.split("_")[0]) or "has to be another value: " + error["msg"].rstrip(".")


def _shown(value: Any) -> str:
    """A value cut short, for a sentence."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 60
    return brief.repr(value)
