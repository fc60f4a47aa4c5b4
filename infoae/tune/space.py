"""The search space of a sweep: which configuration keys get which values, checked before anything trains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from infoae.config import Config, Section, plain_yaml, recipes
from infoae.config.kinds import AtMost
from infoae.config.renamed import current_key
from infoae.errors import UsageError, shown
from infoae.limits import MAX_POINTS

Value = bool | int | float | str
Values = dict[str, Value]
Bound = Annotated[float, Field(allow_inf_nan=False)]
FIXED = {
    "method": "each has settings of its own: make a sweep of each",
    "data": "scores on different images cannot be compared",
    "features": "scores on different features cannot be compared",
    "model.num_categories": "the score's maximum is the logarithm of their number, so scores could not be compared",
    "train.epochs": "the scheduler gives each trial its epochs",
    "train.patience": "the scheduler stops trials, not they themselves",
}


class Dimension(Section):
    """One λ, or whatever else is varied: a range or a list of choices, and the keys that get the value."""

    keys: Annotated[list[str], Field(min_length=1)]
    """Dotted configuration keys; all get the same value."""
    distribution: Literal["uniform", "loguniform"] = "uniform"
    """How a range is drawn from; loguniform gives each order of magnitude the same share."""
    low: Bound | None = None
    high: Bound | None = None
    """Ends of the range, both included. Whole numbers where the key takes whole numbers."""
    choices: Annotated[list[Value], Field(min_length=1)] | None = None
    """Instead of a range."""
    points: Annotated[int, Field(ge=2), AtMost(MAX_POINTS)] = 3
    """Values of a range that a grid search tries, evenly spaced in the distribution."""
    whole: bool = False
    """Whether the values are whole numbers; follows from the keys."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("give choices, or low and high, not both")
            if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("a choice is given twice")
        elif self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        elif not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        elif self.distribution == "loguniform" and self.low <= 0:
            raise ValueError(f"loguniform needs low above 0, not {self.low:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The two ends of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def ends(self) -> list[Value]:
        """Return the bounds, or all choices: what must be valid for every value between to be."""
        if self.choices is not None:
            return self.choices
        return [int(bound) if bound.is_integer() else bound for bound in self.bounds]

    def grid(self) -> list[Value]:
        """Return the values that a grid search tries, ascending, or all choices."""
        if self.choices is not None:
            return self.choices
        spaced = np.geomspace if self.distribution == "loguniform" else np.linspace
        values = spaced(*self.bounds, self.points).clip(*self.bounds)
        return sorted({int(v) for v in values.round()}) if self.whole else [float(v) for v in values]

    def domain(self) -> Any:
        """Return Ray Tune's domain of the values."""
        from ray import tune

        if self.choices is not None:
            return tune.choice(self.choices)
        low, high = self.bounds
        logarithmic = self.distribution == "loguniform"
        if self.whole:
            return (tune.lograndint if logarithmic else tune.randint)(
                int(low), int(high) + 1
            )  # Tune leaves the end out
        return (tune.loguniform if logarithmic else tune.uniform)(low, high)

    def holds(self, value: object) -> bool:
        """Whether a value lies in the range or among the choices."""
        if self.choices is not None:
            return value in self.choices
        low, high = self.bounds
        return isinstance(value, int | float) and low <= value <= high


Space = dict[str, Dimension]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
_SPACE: TypeAdapter[Space] = TypeAdapter(Annotated[dict[Name, Dimension], Field(min_length=1)])


def spaces() -> dict[str, Path]:
    """Return the search spaces that come with infoae, name -> YAML file."""
    folder = Path(str(files("infoae") / "configs" / "spaces"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def default(config: Config) -> str:
    """Return the name of the space that a sweep takes which is told none: that of the method's λs."""
    if config.neighbours.source != "pixels":
        return "lambdas-features"
    return "lambdas" if config.method == "infoae" else config.method


def load(source: str | Path, config: Config) -> Space:
    """Read a search space by name or from a YAML file, and check it against `config`. Raises UsageError."""
    path, text = recipes.read_named(source, spaces(), "search space")
    return parse(text, str(path), config)


def parse(text: str, origin: str, config: Config) -> Space:
    """Validate the YAML `text` from `origin`: name -> Dimension, every end of which makes a valid configuration.

    A dimension without `keys` sets the key that it is named after. Raises UsageError: one line.
    """
    try:
        return _parse(text, origin, config)
    except UsageError as error:  # names and keys may hold anything
        raise UsageError(" ".join(str(error).split())) from None


def _parse(text: str, origin: str, config: Config) -> Space:
    tree = plain_yaml.read(text, origin)
    if not isinstance(tree, dict):
        raise UsageError(f"{origin} holds {type(tree).__name__}, not a mapping from names to ranges")
    for name, part in tree.items():
        if not isinstance(part, dict):
            raise UsageError(f"{origin}: {name}: give low and high, or choices, not {shown(part)}")
    try:
        space = _SPACE.validate_python({name: _current(name, part) for name, part in tree.items()})
    except ValidationError as error:
        raise UsageError(f"{origin}: " + "; ".join(_explain(error))) from None
    taken: dict[str, str] = {}
    for name, dimension in space.items():
        for key in dimension.keys:
            if key in taken:
                raise UsageError(f"{origin}: {key} is set by both {taken[key]} and {name}")
            taken[key] = name
    return {name: _checked(name, dimension, origin, config) for name, dimension in space.items()}


def _current(name: object, part: dict[Any, Any]) -> dict[Any, Any]:
    """Return a dimension with its keys as they are called now; without `keys` it sets the one it is named after."""
    keys = part.get("keys", [name])
    named = [current_key(key) if isinstance(key, str) else key for key in keys] if isinstance(keys, list) else keys
    return part | {"keys": named}


def _explain(error: ValidationError) -> Iterator[str]:
    for item in error.errors():
        given = "" if isinstance(item["input"], dict | list) else f" (given {shown(item['input'])})"
        yield f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'].removeprefix('Value error, ')}{given}"


def _checked(name: str, dimension: Dimension, origin: str, config: Config) -> Dimension:
    for key in dimension.keys:
        for fixed, reason in FIXED.items():
            if key == fixed or key.startswith(f"{fixed}."):
                raise UsageError(f"{origin}: {name}: {key} cannot be swept: {reason}")
    made = [
        recipes.replaced(config, dict.fromkeys(dimension.keys, end), f"{origin}: {name}") for end in dimension.ends()
    ]
    values = [_value(one, key) for one in made for key in dimension.keys]
    whole = dimension.choices is None and any(isinstance(value, int) for value in values)
    return dimension.model_copy(update={"whole": whole})


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def configured(config: Config, space: Space, values: Values) -> Config:
    """Return `config` with the values of a trial. Raises UsageError if they do not go together."""
    keys = {key: value for name, value in values.items() for key in space[name].keys}
    return recipes.replaced(config, keys, "this trial")


def current(config: Config, space: Space) -> Values | None:
    """Return the values that `config` has already, or None if they are not in the space."""
    found: Values = {}
    for name, dimension in space.items():
        values = [_value(config, key) for key in dimension.keys]
        if any(value != values[0] for value in values) or not dimension.holds(values[0]):
            return None
        found[name] = values[0]
    return found


def grid(space: Space) -> Iterator[Values]:
    """Yield every combination of the grid, the last dimension fastest."""
    for values in itertools.product(*(dimension.grid() for dimension in space.values())):
        yield dict(zip(space, values, strict=True))


def draw(space: Space, seed: int, number: int) -> Values:
    """Return the random values of trial `number`: the same whenever and in whatever order they are asked for."""
    random = np.random.default_rng([seed, number])
    drawn = {name: dimension.domain().sample(random_state=random) for name, dimension in space.items()}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in drawn.items()}
