"""Settings of a training run; the defaults are the golden recipe."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapters.styles import STYLES, Style

Device = Literal["auto", "cuda", "mps", "cpu"]
Method = Literal["sft", "dpo", "kto"]
DataFormat = Literal[
    "auto", "prompt-completion", "messages", "conversations", "alpaca", "instruction-style",
    "preference", "message-tree",
]  # fmt: skip
_POSITIVE = (
    "learning_rate",
    "epochs",
    "lora_r",
    "lora_alpha",
    "max_length",
    "effective_batch_size",
    "logging_steps",
    "beta",
    "keep_checkpoints",
)
_NOT_NEGATIVE = (
    "micro_batch_size",
    "save_steps",
    "evaluate_steps",
    "evaluate_prompts",
    "sample_prompts",
    "early_stopping_evaluations",
    "hours",
    "memory_gb",
    "seed",
)
_SHARES = ("lora_dropout", "warmup_fraction", "validation_share")


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on."""

    name: str
    """Name of the adapter, and of the run's folder."""
    base_model: str
    """Folder or hub id of the base model."""
    train_data: str
    """File of rows to learn (JSONL, JSON or Parquet), or the hub id of a data set."""
    heldout_data: str | None = None
    """Rows that are only measured, given as `train_data` is; None splits them off instead."""
    output: Path = Path()
    """Folder of the finished adapter; `adapters/store/<name>` if not given."""
    runs: Path = Path("runs")
    """Folder in which a run keeps checkpoints, logs and status, one folder per adapter name."""
    version: str = "1"
    """Version of the adapter, for the manifest."""
    styles: tuple[Style, ...] = STYLES
    """Styles to train; the first is the default one."""

    data_format: DataFormat = "auto"
    """How the rows are written; `auto` looks at their keys."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """Whether a row that cannot be used stops the run or is left out and counted."""
    max_length: int = 1024
    """Longest example in tokens."""
    on_long_row: Literal["fail", "skip", "cut"] = "fail"
    """What becomes of a longer one; `cut` loses the end of the answer and its end-of-text."""
    turns: Literal["last", "all"] = "all"
    """Which answers of a conversation are learned, each as an example of its own."""
    validation_share: float = 0.2
    """Share of the questions that is split off when `heldout_data` is not given; 0 for none."""

    method: Method = "sft"
    """Supervised fine-tuning, or preferences: DPO from pairs, KTO from labelled answers."""
    adapter: Path | None = None
    """Finished adapter to start from; DPO and KTO need one."""
    beta: float = 0.1
    """How strongly DPO and KTO hold on to the adapter they start from."""
    quantization: Literal["nf4", "none"] = "nf4"
    """How the frozen base is loaded."""
    device: Device = "auto"
    """Where to train; `auto` takes a CUDA device if there is one."""
    rope_factor: float = 1.0
    """Stretches the positions that the base was trained on, for longer texts (linear scaling)."""

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
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead (rsLoRA), better for high ranks."""
    dora: bool = False
    """Train direction and length of the weights apart (DoRA); about a quarter slower."""
    lora_init: Literal["default", "eva"] = "default"
    """`eva` starts the matrices from the activations that the rows cause (EVA)."""

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
    hours: float = 0.0
    """Time budget, evaluation and saving included, in place of `epochs`; 0 for none."""
    effective_batch_size: int = 16
    """Rows behind each optimizer step, over all GPUs."""
    micro_batch_size: int = 0
    """Rows in one forward pass of a GPU; 0 takes as many as fit."""
    memory_gb: float = 0.0
    """GPU memory that training may use, in 10^9 bytes; 0 for all that is free."""
    padding_free: bool = True
    """Lay the rows of a micro-batch end to end instead of padding them."""
    gradient_checkpointing: Literal["auto", True, False] = "auto"
    """Compute activations twice instead of keeping them; `auto` for as few layers as it takes."""

    seed: int = 20
    logging_steps: int = 5
    """Optimizer steps between two log entries."""
    save_steps: int = 0
    """Optimizer steps between two checkpoints; 0 for one at each evaluation."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept; the best one stays besides."""
    evaluate_steps: int = 0
    """Optimizer steps between two evaluations; 0 for one at the end."""
    early_stopping_evaluations: int = 0
    """Stop after this many evaluations without a better loss; 0 never stops early."""
    sample_prompts: int = 1
    """Held-out questions answered in every style at each evaluation."""
    evaluate_prompts: int = 25
    """Held-out questions that judge the finished adapter; 0 skips it."""
    tensorboard: bool = False
    """Write TensorBoard files too, into the run's folder."""

    @property
    def output_folder(self) -> Path:
        """Where the finished adapter goes."""
        given = self.output != Path()
        return self.output if given else Path("adapters") / "store" / self.name

    @property
    def run_folder(self) -> Path:
        """Where the run keeps what it needs to go on, and what it tells of itself."""
        return self.runs / self.name

    @property
    def pads_rows(self) -> bool:
        """Whether the rows of a micro-batch are padded to the longest; for preferences always."""
        return not self.padding_free or self.method != "sft"

    @property
    def style_names(self) -> tuple[str, ...]:
        """Names of the styles."""
        return tuple(style.name for style in self.styles)

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, one sentence each."""
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                yield f"{name} must be above 0, not {getattr(self, name)}"
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                yield f"{name} must be 0 or more, not {getattr(self, name)}"
        for name in _SHARES:
            if not 0 <= getattr(self, name) < 1:
                yield f"{name} must be from 0 to below 1, not {getattr(self, name)}"
        if self.max_steps != -1 and self.max_steps < 1:
            yield f"max_steps must be -1 or at least 1, not {self.max_steps}"
        if not self.rope_factor >= 1:
            yield f"rope_factor must be 1 or more, not {self.rope_factor}"
        if self.early_stopping_evaluations > 0 and self.evaluate_steps == 0:
            yield "early_stopping_evaluations needs evaluations before the end; set evaluate_steps"
        yield from self._batch_problems()
        yield from self._method_problems()
        yield from self._style_problems()
        yield from self._data_problems()

    def _batch_problems(self) -> Iterator[str]:
        if self.micro_batch_size > 0 and self.effective_batch_size % self.micro_batch_size:
            yield (
                f"micro_batch_size {self.micro_batch_size} must divide "
                f"effective_batch_size {self.effective_batch_size}"
            )
        if self.method == "kto" and self.micro_batch_size == 1:
            yield "micro_batch_size must be 2 or more for kto, which compares rows with each other"

    def _method_problems(self) -> Iterator[str]:
        if self.method != "sft" and self.adapter is None:
            yield f"method {self.method} starts from a finished adapter; name its folder: adapter"
        if self.adapter is not None and self.lora_init != "default":
            yield "lora_init must be default with an adapter to start from"

    def _style_problems(self) -> Iterator[str]:
        if not self.styles:
            yield "styles must name at least one"
        for what in ("name", "token"):
            counts = Counter(getattr(style, what) for style in self.styles)
            for value in (value for value, count in counts.items() if count > 1):
                yield f"styles must each have a {what} of their own; {value!r} stands twice"

    def _data_problems(self) -> Iterator[str]:
        for source in (self.train_data, self.heldout_data):
            if source is not None and not Path(source).is_file() and not _is_hub_id(source):
                yield f"data file {source} does not exist"
        if self.evaluate_prompts > 0 and self.heldout_data is None and self.validation_share == 0:
            yield (
                "evaluate_prompts needs questions that were not learned; set heldout_data or "
                "validation_share, or evaluate_prompts=0"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def _is_hub_id(source: str) -> bool:
    """`owner/name`, with nothing of that name on disk and no ending of a data file."""
    owner, slash, name = source.partition("/")
    named = bool(owner and slash and name) and "/" not in name
    return named and not Path(name).suffix and not Path(owner).exists()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
