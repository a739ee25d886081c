"""The rule that a lesion was propagated by, read from its record."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from ichseg.methods.follow_rule import Rule
from ichseg.methods.rule_record import parameters_of, rule_of


@pytest.mark.parametrize("least", [None, 0.25])
def test_a_rule_is_read_as_it_was_written(least: float | None) -> None:
    rule = Rule(least_likeness=least, margin_mm=3)
    assert rule_of(asdict(rule)) == rule
    assert parameters_of({"rule": asdict(rule)})["rule"] == asdict(rule)


def test_a_rule_of_before_there_was_a_likeness_has_none() -> None:
    old = asdict(Rule())
    del old["least_likeness"]
    assert rule_of(old) == replace(Rule(), least_likeness=None)
