"""Settings from environment variables: `LACONIC_<FIELD>` for every field of a configuration."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PREFIX = "LACONIC_"
BIND_VARIABLE = "LACONIC_BIND"
"""Read by gunicorn.conf.py: where the server listens is no matter of a configuration."""

Reader = Callable[[str], Any]


def read_environment(environment: Mapping[str, str], *kinds: type) -> tuple[Any, ...]:
    """One object of each kind of frozen dataclass, from the `LACONIC_…` variables.

    Raises:
        ValueError: listing unknown variables, with the nearest known name, and bad values.
    """
    readers = {name: reader for kind in kinds for name, reader in _readers(kind).items()}
    values: dict[str, Any] = {}
    problems = []
    for variable, text in sorted(environment.items()):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable == BIND_VARIABLE:
            continue
        if name not in readers:
            near = difflib.get_close_matches(name, readers, n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            problems.append(f"unknown setting {variable}{hint}")
            continue
        try:
            values[name] = readers[name](text)
        except ValueError as error:
            problems.append(f"{variable}={text!r} {error}")
    made = []
    for kind in kinds:
        mine = {field.name: values[field.name] for field in dataclasses.fields(kind)
                if field.name in values}  # fmt: skip
        try:
            made.append(kind(**mine))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(made)


def _readers(kind: type) -> dict[str, Reader]:
    hints = get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}


def _reader(hint: Any) -> Reader:
    if get_origin(hint) in (Union, types.UnionType):  # `float | None`: unset means None
        [hint] = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is Literal:
        return str
    if get_origin(hint) is tuple:
        return _read_list
    return {int: _read_int, float: _read_float, bool: _read_bool, Path: _read_path}.get(hint, str)


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("is no int") from None


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("is no float") from None


def _read_bool(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise ValueError("is neither true nor false")
    return known[text.lower()]


def _read_path(text: str) -> Path:
    if not text:
        raise ValueError("is empty; leave it out instead")
    return Path(text)


def _read_list(text: str) -> tuple[str, ...]:
    """Values between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
