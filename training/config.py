"""Settings of a training run: one YAML file, single values replaced by `--set name=value`."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from adapters.styles import STYLES, Style

_POSITIVE = (
    "learning_rate",
    "epochs",
    "lora_r",
    "lora_alpha",
    "max_length",
    "effective_batch_size",
    "micro_batch_size",
    "logging_steps",
)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every problem."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on. The defaults are the golden recipe."""

    name: str
    """Name of the adapter."""
    base_model: str
    """Folder or hub id of the base model."""
    train_data: Path
    """JSONL rows to learn."""
    heldout_data: Path | None = None
    """JSONL rows that are only measured; their questions also judge the finished adapter."""
    output: Path = Path()
    """Folder of the finished adapter; `adapters/store/<name>` if not given."""
    checkpoints: Path = Path("runs")
    """Folder in which a run keeps its checkpoints, one folder per adapter name."""
    version: str = "1"
    """Version of the adapter, for the manifest."""
    styles: tuple[Style, ...] = STYLES
    """Styles to train; the first is the default one."""

    quantization: Literal["nf4", "none"] = "nf4"
    """How the frozen base is loaded."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to train; `auto` takes a CUDA device if there is one."""

    lora_r: int = 16
    """Rank of the LoRA matrices."""
    lora_alpha: int = 32
    """The LoRA update is scaled by alpha / r."""
    lora_dropout: float = 0.05
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Linear layers that get a LoRA pair."""

    learning_rate: float = 2e-4
    """Peak, reached after the warm-up."""
    lr_scheduler: str = "cosine"
    """A schedule of transformers by name."""
    warmup_fraction: float = 0.03
    """Share of the steps in which the learning rate rises."""
    optimizer: str = "adamw_torch"
    """An optimizer of transformers by name."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    epochs: float = 1.0
    """Passes over the rows."""
    max_steps: int = -1
    """Stop after this many optimizer steps; -1 for whole epochs."""
    effective_batch_size: int = 16
    """Rows behind each optimizer step."""
    micro_batch_size: int = 16
    """Rows in one forward pass; must divide `effective_batch_size`."""
    padding_free: bool = False
    """Lay the rows of a micro-batch end to end instead of padding them."""
    gradient_checkpointing: bool = True
    """Compute activations twice instead of keeping them."""
    max_length: int = 1024
    """Longest row in tokens; a longer one is refused, since cutting it would lose its end."""

    seed: int = 20
    logging_steps: int = 5
    """Optimizer steps between two log entries."""
    save_steps: int = 0
    """Optimizer steps between two checkpoints; 0 for none."""
    evaluate_prompts: int = 25
    """Held-out questions that judge the finished adapter; 0 skips it."""

    @property
    def output_folder(self) -> Path:
        """Where the finished adapter goes."""
        given = self.output != Path()
        return self.output if given else Path("adapters") / "store" / self.name

    @property
    def style_names(self) -> tuple[str, ...]:
        """Names of the styles."""
        return tuple(style.name for style in self.styles)

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, one sentence each."""
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                yield f"{name} must be above 0, not {getattr(self, name)}"
        for name in ("lora_dropout", "warmup_fraction"):
            if not 0 <= getattr(self, name) < 1:
                yield f"{name} must be from 0 to below 1, not {getattr(self, name)}"
        if self.max_steps != -1 and self.max_steps < 1:
            yield f"max_steps must be -1 or at least 1, not {self.max_steps}"
        if self.seed < 0:
            yield f"seed must be 0 or more, not {self.seed}"
        if self.micro_batch_size > 0 and self.effective_batch_size % self.micro_batch_size:
            yield (
                f"micro_batch_size {self.micro_batch_size} must divide "
                f"effective_batch_size {self.effective_batch_size}"
            )
        yield from self._style_problems()
        yield from self._data_problems()

    def _style_problems(self) -> Iterator[str]:
        if not self.styles:
            yield "styles must name at least one"
        for what in ("name", "token"):
            counts = Counter(getattr(style, what) for style in self.styles)
            for value in (value for value, count in counts.items() if count > 1):
                yield f"styles must each have a {what} of their own; {value!r} stands twice"

    def _data_problems(self) -> Iterator[str]:
        for path in (self.train_data, self.heldout_data):
            if path is not None and not path.is_file():
                yield f"data file {path} does not exist"
        if self.evaluate_prompts > 0 and self.heldout_data is None:
            yield "evaluate_prompts needs heldout_data; set it, or evaluate_prompts=0"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


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
    values = _typed_values(data, problems)
    complete = all(name in values for name in _required_names())
    config = TrainConfig(**values) if complete else None
    if config is not None:
        problems += config.problems()
    if config is None or problems:
        raise ConfigError(f"{path}:" + "".join(f"\n  - {problem}" for problem in problems))
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
        if value not in typing.get_args(hint):
            raise ValueError(f"must be one of {', '.join(typing.get_args(hint))}, not {value!r}")
        return value
    if hint in (Path, Path | None):
        return None if value is None else Path(_of(str, value))
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
