"""How each thing is trained: the adapter by a named recipe, the methods that take no box by their own configuration."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ichseg.errors import InputError
from ichseg.methods.network import LORA_TARGETS
from ichseg.methods.predictor import CROP_SIDES
from ichseg.methods.unets import ARCHITECTURES, CHANNELS
from train.data.example_config import ExampleConfig

Config = TypeVar("Config")


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides what a run trains; as it stands, the paper's recipe.

    An adapter of rank r adds (alpha / sqrt(r)) B A to the weights of each target layer ("rank-stabilised",
    Kalajdzievski 2023), alpha / r without ``rslora``.
    """

    base: Literal["litemedsam", "sam", "medsam"] = "litemedsam"
    """The network that is adapted: the paper's, at 256 x 256, or one that it could not afford, at 1024 x 1024."""
    rank: int = 64
    alpha: int = 128
    dropout: float = 0.1
    rslora: bool = True
    targets: tuple[str, ...] = LORA_TARGETS
    loss: Literal["bce", "bce+dice"] = "bce"
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epochs: int = 24
    batch: int = 8
    """Examples a gradient, on each device."""
    accumulate: int = 8
    """Gradients an optimizer step."""
    microbatch: int = 4
    """Examples that are in memory at once; changes the result by rounding, and by what dropout draws."""
    seed: int = 0
    select: Literal["best", "last"] = "best"
    """Which epoch's adapter is the run's: the best on the validation patients (by the mean of Dice and Jaccard), or the
    last, for when too few patients are set aside to choose by."""
    refinement: bool = False
    """Whether the adapter is meant for, and scored with, refinement on a native-resolution crop around each box."""
    crop_sides: float = CROP_SIDES
    """The crop's side in units of the box's longer side."""
    examples: ExampleConfig = field(default_factory=ExampleConfig)

    @property
    def scaling(self) -> float:
        """The factor on B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FinetuneConfig:
        """The configuration that ``to_json`` saved."""
        return _from_json(cls, values)

    def with_settings(self, settings: Sequence[str]) -> FinetuneConfig:
        """A copy with some fields set, each given as "field=value" or "examples.field=value".

        >>> FinetuneConfig().with_settings(["rank=8", "examples.box_per=component"]).examples.box_per
        'component'
        """
        config = self
        for setting in settings:
            name, _, text = setting.partition("=")
            owner: Any = config
            short = name.removeprefix("examples.")
            short = _NOW.get(short, short)
            text = _NOW.get(text, text) if short == "box_per" else text
            if name.startswith("examples."):
                owner = config.examples
            known = [item.name for item in dataclasses.fields(owner) if item.name != "examples"]
            if short not in known or not text:
                raise InputError(
                    f"A setting is field=value with a field of {', '.join(known)}; got '{setting}'; correct it."
                )
            changed = dataclasses.replace(owner, **{short: _parse(text)})
            config = changed if owner is config else dataclasses.replace(config, examples=changed)
        return config


#: What ``--recipe`` names; what each gave is in EXPERIMENTS.md.
RECIPES: dict[str, FinetuneConfig] = {
    # As published: 64 examples an optimizer step, 24 epochs.
    "paper": FinetuneConfig(),
    # The same for a small data set on a CPU: 8 examples a step, 3 epochs.
    "paper-short": FinetuneConfig(accumulate=1, epochs=3),
    # Crops at native resolution, one box per connected component, and as much variety as the data allow.
    "crops": FinetuneConfig(
        loss="bce+dice",
        accumulate=1,
        epochs=3,
        select="last",
        refinement=True,
        examples=ExampleConfig(
            box_per="both",
            box_jitter_px=6,
            flip_left_right=True,
            rotation_degrees=15,
            hu_shift=4,
            hu_scale=0.1,
            noise_hu=3,
            blur_px=1,
            crop_sides=(2.0, 4.0),
            crop_share=0.75,
            implant_share=0.2,
            negative_share=0.05,
        ),
    ),
}


#: What fields and a value were called before 0.2.0, in the runs and the weights of then.
_NOW = {"second_look": "refinement", "min_piece_px": "min_component_px", "piece": "component"}


def recipe_named(name: str, base: str | None, settings: Sequence[str] = ()) -> FinetuneConfig:
    """A recipe by name for a base (its own by default), with some fields set.

    Raises:
        InputError: a name that is none of RECIPES; a field that is not there.

    """
    if name not in RECIPES:
        raise InputError(
            f"A recipe is one of {', '.join(RECIPES)}; got '{name}'; choose one of them."
        )
    return RECIPES[name].with_settings([*([f"base={base}"] if base else []), *settings])


def _from_json(kind: Callable[..., Config], values: Mapping[str, Any]) -> Config:
    """A configuration with examples from plain values, also by the words of before 0.2.0."""
    values = {_NOW.get(name, name): _tuple(value) for name, value in values.items()}
    examples = {
        _NOW.get(name, name): _NOW.get(value, value) if name == "box_per" else _tuple(value)
        for name, value in values.pop("examples", {}).items()
    }
    return kind(**values, examples=ExampleConfig(**examples))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parse(text: str) -> Any:
    """A setting's value: JSON where it is JSON (numbers, true, [2, 4]), else the text."""
    try:
        return _tuple(json.loads(text))
    except json.JSONDecodeError:
        return text


FOREST = "random-forest"

METHODS = (FOREST, *ARCHITECTURES)


@dataclass(frozen=True)
class NetworkConfig:
    """How a network without a prompt is trained. The same for all of them, and set before any was scored."""

    architecture: str
    channels: tuple[int, ...] = CHANNELS
    epochs: int = 12
    """Passes over the slices; the last epoch's weights are the run's, as too few patients validate to choose by."""
    batch: int = 8
    learning_rate: float = 3e-3
    """The peak of a one-cycle schedule."""
    weight_decay: float = 0.01
    seed: int = 0
    examples: ExampleConfig = field(
        default_factory=lambda: ExampleConfig(
            flip_left_right=True,
            rotation_degrees=15,
            hu_shift=4,
            hu_scale=0.1,
            negative_share=0.25,  # it sees no box, and must learn what a slice without blood looks like
        )
    )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """The configuration that ``to_json`` saved."""
        return _from_json(cls, values)


@dataclass(frozen=True)
class ForestConfig:
    """How the forest is grown."""

    trees: int = 50
    leaves: int = 256
    """At most so many a tree, which keeps the file small."""
    pixels: int = 300
    """So many pixels with blood and as many without from each slice that has blood."""
    bloodless_every: int = 4
    """Of the slices without blood every fourth, with a third as many pixels."""
    inner_folds: int = 3
    """The cutoff is that of the best Dice on training patients that the trees of an inner fold have not seen."""
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ForestConfig:
        """The configuration that ``to_json`` saved."""
        return cls(**values)


def configuration(method: str, epochs: int | None = None) -> NetworkConfig | ForestConfig:
    """How a method is trained; ``epochs`` replaces a network's own number of passes over the data.

    Raises:
        InputError: a method that is none of METHODS.

    """
    if method == FOREST:
        return ForestConfig()
    if method not in METHODS:
        raise InputError(
            f"A method to train is one of {', '.join(METHODS)}; got '{method}'; choose one of them."
        )
    config = NetworkConfig(method)
    return config if epochs is None else dataclasses.replace(config, epochs=epochs)
