"""Any causal language model of transformers, for those that `serving.decoder` does not know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from serving.attention import StepInput
from serving.logprobs import Scoring


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

    def forward(self, step: StepInput, scoring: Scoring | None = None) -> Tensor:
        """Logits [rows, vocabulary] of the token that follows each row; others go to `scoring`."""
        ends = step.ends.tolist()
        starts = step.starts.tolist()
        return torch.cat(
            [
                self._forward_row(step, starts[row], slice(ends[row], ends[row + 1]), scoring)
                for row in range(len(ends) - 1)
            ]
        )

    def _forward_row(
        self, step: StepInput, start: int, tokens: slice, scoring: Scoring | None
    ) -> Tensor:
        """Logits [1, vocabulary] of what follows; a pass for each part that is to be scored."""
        if scoring is None:
            return self._pass(step, start, tokens, num_logits=1)
        logits, done = None, tokens.start
        for part in scoring.parts:
            if tokens.start <= part.start < tokens.stop:
                logits = self._pass(step, start, slice(done, part.stop), part.stop - part.start)
                scoring.take(logits)
                done = part.stop
        if done < tokens.stop:
            logits = self._pass(step, start, slice(done, tokens.stop), num_logits=1)
        assert logits is not None
        return logits[-1:]

    def _pass(self, step: StepInput, start: int, tokens: slice, num_logits: int) -> Tensor:
        """Logits [num_logits, vocabulary] of what follows the last tokens of a part of a row."""
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
            logits_to_keep=num_logits,
        )
        logits: Tensor = output.logits[0, -num_logits:]
        return logits
