"""Any causal language model of transformers, for those that `serving.decoder` does not know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from serving.attention import StepInput


class PlainDecoder:
    """Does what `Decoder` does, row by row through the model's own code: right, and slow."""

    can_be_captured = False

    def __init__(self, model: PreTrainedModel, *, max_length: int) -> None:
        """Use the model as it is."""
        self._model = model
        self.device, self.dtype = model.device, model.dtype
        self.max_length = max_length
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self._caches: dict[int, Any] = {}

    @property
    def cache_bytes_per_token(self) -> int:
        """Memory that a token takes in the model's own cache, if all layers keep all tokens."""
        config = self._model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * size * self.dtype.itemsize)

    def allocate_cache(self, num_tokens: int) -> int:
        """Every row makes its own cache; returns a place that belongs to no row."""
        return num_tokens

    def release(self, start: int) -> None:
        """The row that began at `start` is over."""
        self._caches.pop(start, None)

    def forward(self, step: StepInput) -> Tensor:
        """Logits [rows, vocabulary] of the token that follows each row."""
        ends = step.ends.tolist()
        starts = step.starts.tolist()
        return torch.cat(
            [
                self._forward_row(step, starts[row], slice(ends[row], ends[row + 1]))
                for row in range(len(ends) - 1)
            ]
        )

    def _forward_row(self, step: StepInput, start: int, tokens: slice) -> Tensor:
        positions = step.positions[tokens][None]
        first = int(positions[0, 0])
        if first == 0:
            self._caches[start] = DynamicCache(config=self._model.config)
        elif (surplus := self._caches[start].get_seq_length() - first) > 0:
            self._caches[start].crop(-surplus)  # a pass that failed has left tokens behind
        output = self._model(
            input_ids=step.ids[tokens][None],
            position_ids=positions,
            past_key_values=self._caches[start],
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits
