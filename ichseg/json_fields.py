"""JSON that people give: its fields by their kind, and what is wrong with it in plain words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any


class RecordError(ValueError):
    """A JSON document that is not what was expected; the text says what is wrong, to stand in a longer sentence."""


#: Of a JSON file that is read: what is made of it in memory is some ten times as large.
MAX_JSON_BYTES = 32 << 20

_MISSING = object()
_LONGEST = 40


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return (
            isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:  # a whole number beyond any float
        return False


_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "a whole number": _is_whole,
    "a number": _is_finite,
    "true or false": lambda value: isinstance(value, bool),
    "a list": lambda value: isinstance(value, list),
    "an object": lambda value: isinstance(value, dict),
}


def load_json(path: Path) -> Any:
    """What a JSON file holds. Raises OSError, and RecordError where it is no JSON, or larger than MAX_JSON_BYTES."""
    with path.open("rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise RecordError(f"it is larger than {MAX_JSON_BYTES >> 20} MiB")
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """What JSON in UTF-8 holds. Raises RecordError where it is none.

    >>> parse_json(b"[1")
    Traceback (most recent call last):
    ichseg.json_fields.RecordError: it is not JSON (line 1, column 3)
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecordError("it is not JSON in UTF-8") from error
    except json.JSONDecodeError as error:
        raise RecordError(f"it is not JSON (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise RecordError("it is JSON nested too deeply") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise RecordError("it holds a number that is too long") from error


def of_kind(value: Any, kind: str, what: str, *, or_null: bool = False) -> Any:
    """A value that is of one of ``_KINDS``, such as "text" or "a list".

    Raises RecordError, in which ``what`` is what the value is called.

    >>> of_kind([1], "text", "the name of lesion 1")
    Traceback (most recent call last):
    ichseg.json_fields.RecordError: the name of lesion 1 is [1], not text
    """
    if (value is None and or_null) or _KINDS[kind](value):
        return value
    raise RecordError(f"{what} is {_shown(value)}, not {kind}")


def json_field(
    row: Any,
    key: str,
    kind: str,
    where: str = "it",
    *,
    default: Any = _MISSING,
    or_null: bool = False,
) -> Any:
    """A field of a JSON object by its kind (``of_kind``); ``default`` where it is not there.

    Raises RecordError, in which ``where`` is what the object is called.

    >>> json_field({"id": "a"}, "id", "a whole number", "lesion 1")
    Traceback (most recent call last):
    ichseg.json_fields.RecordError: "id" of lesion 1 is "a", not a whole number
    """
    row = of_kind(row, "an object", where)
    if key not in row:
        if default is not _MISSING:
            return default
        raise RecordError(f'{where} has no "{key}"')
    whose = f'its "{key}"' if where == "it" else f'"{key}" of {where}'
    return of_kind(row[key], kind, whose, or_null=or_null)


def _shown(value: Any) -> str:
    """A value as JSON writes it, cut short."""
    if isinstance(value, (dict, list)) and len(value) > 1:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (ValueError, RecursionError):
        return "a value nested too deeply"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
