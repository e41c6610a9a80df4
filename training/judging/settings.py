"""How an adapter is loaded to be judged."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.config import EngineConfig

NAMES = ("base_model", "device", "quantization", "weights")
"""Settings of `EngineConfig` that a command line may replace."""


def engine_config(adapter: Path, overrides: Sequence[str] = ()) -> EngineConfig:
    """Settings of the engine from `name=value` overrides.

    Raises:
        ValueError: listing unknown names, with the nearest known one, and bad values.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            problems.append(f"--set {override}: write name=value")
        elif name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}"
            problems.append(f"--set {override}: unknown setting {name!r}; {hint}")
        else:
            values[name] = value
    config = EngineConfig(adapter=adapter)
    try:
        config = dataclasses.replace(config, **values)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return config
