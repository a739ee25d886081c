"""What a lesion was propagated by, as a record says it: read with every field in its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from ichseg.json_fields import RecordError, json_field, of_kind
from ichseg.methods.follow_rule import Direction, Reason, Rule

_ANY = (-1e12, 1e12)

#: Least and most of each number of a Rule. Those that say how far and how often to look bound what it costs.
BOUNDS: dict[str, tuple[float, float]] = {
    "margin_mm": (0, 100),
    "margin_per_mm": (0, 100),
    "reach_mm": (0, 100),
    "further_looks": (0, 10),
    **dict.fromkeys(("least_area_mm2", "most_growth", "least_contrast", "least_contrast_hu"), _ANY),
    **dict.fromkeys(("most_bone", "least_overlap", "least_iou", "bone_hu"), _ANY),
    "slab_mm": (0, 100),
    "least_likeness": (-1, 1),
}

#: Of a propagation's stops, of which two are usual, and of what else it says.
MAX_STOPS = 64
_MAX_TEXT = 200


def rule_of(record: Any) -> Rule:
    """A rule from a JSON document; what it does not say is as by default.

    But for slabs and the least likeness: a rule that does not say them was recorded before there were any.

    Raises RecordError for a number that no rule has, or one out of its bounds.

    >>> rule_of({"further_looks": 200_000})
    Traceback (most recent call last):
    ichseg.json_fields.RecordError: "further_looks" of a propagation's rule is 0 to 10, not 200000
    """
    where = "a propagation's rule"
    given = of_kind(record, "an object", where)
    known = [field.name for field in fields(Rule)]
    if other := [name for name in given if name not in known]:
        raise RecordError(f"{where} is of {', '.join(known)}, and has no '{str(other[0])[:40]}'")
    numbers = {
        name: json_field(
            given,
            name,
            "a whole number" if name == "further_looks" else "a number",
            where,
            or_null=name == "least_likeness",
        )
        for name in given
    }
    for name, value in numbers.items():
        least, most = BOUNDS[name]
        if value is not None and not least <= value <= most:
            raise RecordError(f'"{name}" of {where} is {least:g} to {most:g}, not {value:.8g}')
    return Rule(**{"slab_mm": 0.0, "least_likeness": None, **numbers})


def parameters_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a lesion was propagated by (``Propagation.mark``), each part in its bounds.

    What else it says is kept where it is a number, a short text, true, false or null. Raises RecordError.
    """
    where = "a propagation"
    if len(record) > MAX_STOPS:
        raise RecordError(f"{where} says at most {MAX_STOPS} things of itself, not {len(record)}")
    out: dict[str, Any] = {
        str(name)[:_MAX_TEXT]: value
        for name, value in record.items()
        if name not in ("rule", "second_look", "stops")
        and (value is None or isinstance(value, bool | int | float | str))
        and len(str(value)) <= _MAX_TEXT
    }
    if record.get("rule") is not None:
        rule = rule_of(record["rule"])
        out["rule"] = {field.name: getattr(rule, field.name) for field in fields(Rule)}
    if "second_look" in record:
        out["second_look"] = json_field(record, "second_look", "true or false", where, or_null=True)
    stops = json_field(record, "stops", "a list", where, default=[])
    if len(stops) > MAX_STOPS:
        raise RecordError(f"{where} has at most {MAX_STOPS} stops, not {len(stops)}")
    if "stops" in record:
        out["stops"] = [_stop(one) for one in stops]
    return out


def _stop(given: Any) -> dict[str, Any]:
    """A stop as ``Stop.record`` writes it."""
    where = "a stop of a propagation"
    reason = json_field(given, "reason", "text", where)
    direction = json_field(given, "direction", "a whole number", where)
    sentence = json_field(given, "sentence", "text", where)
    k = json_field(given, "slice", "a whole number", where)
    if (
        reason not in get_args(Reason)
        or direction not in get_args(Direction)
        or len(sentence) > _MAX_TEXT
        or not sentence.isprintable()
        or not 0 <= k <= 1_000_000
    ):
        raise RecordError(f"{where} is none that a rule gives")
    numbers = {
        name: json_field(given, name, "a number", where, default=None, or_null=True)
        for name in ("value", "threshold")
    }
    return {"slice": k, "direction": direction, "reason": reason, **numbers, "sentence": sentence}
