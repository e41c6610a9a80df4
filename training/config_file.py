"""Reads the settings of a training run: one YAML file, single values replaced by `name=value`."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from adapters.styles import Style
from training.config import TrainConfig


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every problem."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file and `name=value` overrides, whose values are YAML too.

    Raises:
        ConfigError: listing unknown names, with the nearest known one, and every bad value.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of names to values")
    return make_config(data, overrides, str(path))


def make_config(values: Mapping[str, Any], overrides: Sequence[str], origin: str) -> TrainConfig:
    """Settings from values by name and `name=value` overrides.

    Raises:
        ConfigError: as `load_config`, naming the origin.
    """
    data = dict(values)
    problems: list[str] = []
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            problems.append(f"--set {override}: write name=value")
        else:
            try:
                data[name.strip()] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                problems.append(f"--set {override}: {' '.join(str(error).split())}")
    typed = _typed_values(data, problems)
    complete = all(name in typed for name in _required_names())
    config = TrainConfig(**typed) if complete else None
    if config is not None:
        problems += config.problems()
    if config is None or problems:
        raise ConfigError(f"{origin}:" + "".join(f"\n  - {problem}" for problem in problems))
    return config


def _typed_values(data: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    hints = typing.get_type_hints(TrainConfig)
    values = {}
    for name, value in data.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1)
            problems.append(
                f"unknown key {name!r}" + (f"; did you mean {near[0]}?" if near else "")
            )
            continue
        try:
            values[name] = _typed(hints[name], value)
        except (TypeError, ValueError, KeyError) as error:
            problems.append(f"{name}: {error}")
    problems += [f"{name} is missing" for name in _required_names() if name not in data]
    return values


def _required_names() -> list[str]:
    return [f.name for f in dataclasses.fields(TrainConfig) if f.default is dataclasses.MISSING]


def _typed(hint: Any, value: Any) -> Any:
    """The value as the type of a field; raises ValueError if it is none."""
    if hint == tuple[Style, ...]:
        return tuple(Style.from_dict(style) for style in value)
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"must be a list of names, not {value!r}")
        return tuple(value)
    if typing.get_origin(hint) is Literal:
        # 1 equals True in Python, but is no yes or no in a file
        known = {(type(choice), choice): str(choice).lower() for choice in typing.get_args(hint)}
        if (type(value), value) not in known:
            raise ValueError(f"must be one of {', '.join(known.values())}, not {value!r}")
        return value
    if type(None) in typing.get_args(hint):
        [hint] = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return None if value is None else _typed(hint, value)
    if hint is Path:
        return Path(_of(str, value))
    if hint is float:
        return _to_float(value)
    return _of(hint, value)


def _to_float(value: Any) -> float:
    # YAML 1.1 reads 2e-4, without a point, as text.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be a number, not {value!r}")
    return float(value)


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"must be {kind.__name__}, not {value!r}")
    return value
