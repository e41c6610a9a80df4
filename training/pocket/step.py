"""One step of pre-training; on a GPU replayed from a CUDA graph for each shape of batch.

A model this small waits for the launches of its kernels, not for the kernels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import MistralForCausalLM

from training.pocket.batches import NOT_LEARNED, Batch
from training.pocket.nf4 import round_to_nf4


def answer_loss(model: MistralForCausalLM, batch: Batch, rounded: bool) -> Tensor:
    """Mean cross-entropy over the ids to learn, in the device's fast dtype.

    Args:
        model: With float32 weights.
        batch: On the model's device.
        rounded: Whether the weights of the layers are seen as they are in NF4.
    """
    # no cache, as PyTorch advises for what is recorded in CUDA graphs
    with torch.autocast(
        batch.ids.device.type, torch.bfloat16, enabled=batch.ids.is_cuda, cache_enabled=False
    ):
        logits = model.lm_head(_hidden_states(model, batch.ids, rounded)).float()
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=NOT_LEARNED
    )


def _hidden_states(model: MistralForCausalLM, ids: Tensor, rounded: bool) -> Tensor:
    """As the model computes them, but without asking the device whether rows are packed."""
    body = model.model
    hidden = body.embed_tokens(ids)
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    rotation = body.rotary_emb(hidden, position_ids=positions)
    for layer in body.layers:
        weights = dict(_rounded_weights(layer)) if rounded else {}
        # Causal attention never sees the padding, so no mask is needed.
        hidden = torch.func.functional_call(
            layer, weights, (hidden,), {"position_embeddings": rotation}
        )
    normed: Tensor = body.norm(hidden)
    return normed


def _rounded_weights(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, weight in layer.named_parameters():
        if weight.ndim == 2:
            # straight-through: the forward pass sees the rounded value, the gradient passes by
            yield name, weight + (round_to_nf4(weight.detach()) - weight.detach())


class Step:
    """Learns from one batch: gradients, clipped to a norm of 1, and AdamW."""

    def __init__(self, model: MistralForCausalLM, weight_decay: float) -> None:
        """Gradients and the optimizer's state live as long as the step does."""
        self._model = model
        parameters = dict(model.named_parameters())
        decayed = [name for name, p in parameters.items() if p.ndim == 2 and "embed" not in name]
        device = next(model.parameters()).device
        self._learning_rate = torch.zeros((), device=device)
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [parameters[name] for name in decayed], "weight_decay": weight_decay},
                {
                    "params": [p for name, p in parameters.items() if name not in decayed],
                    "weight_decay": 0.0,
                },
            ],
            lr=self._learning_rate,
            betas=(0.9, 0.95),
            fused=device.type == "cuda",
            capturable=device.type == "cuda",
        )
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, batch: Batch, learning_rate: float, rounded: bool) -> Tensor:
        """Learn and give the loss before it, a scalar on the device that is overwritten later."""
        self._learning_rate.fill_(learning_rate)
        return self._learn(batch, rounded)

    def _learn(self, batch: Batch, rounded: bool) -> Tensor:
        loss = answer_loss(self._model, batch, rounded)
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        return loss.detach()


class ReplayedStep(Step):
    """The same, recorded when a shape comes for the second time and replayed from then on."""

    def __init__(self, model: MistralForCausalLM, weight_decay: float) -> None:
        """The model is on a CUDA device."""
        super().__init__(model, weight_decay)
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: set[tuple[torch.Size, bool]] = set()
        self._recorded: dict[
            tuple[torch.Size, bool], tuple[torch.cuda.CUDAGraph, Batch, Tensor]
        ] = {}

    def _learn(self, batch: Batch, rounded: bool) -> Tensor:
        key = (batch.ids.shape, rounded)
        if key not in self._seen:
            # Libraries prepare at the first call what must not be done while recording.
            self._seen.add(key)
            return self._beside(batch, rounded)
        if key not in self._recorded:
            self._recorded[key] = self._record(batch, rounded)
        graph, recorded, loss = self._recorded[key]
        recorded.ids.copy_(batch.ids)
        recorded.targets.copy_(batch.targets)
        graph.replay()
        return loss

    def _beside(self, batch: Batch, rounded: bool) -> Tensor:
        """On a stream of its own, as the recording will be."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = super()._learn(batch, rounded)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _record(self, batch: Batch, rounded: bool) -> tuple[torch.cuda.CUDAGraph, Batch, Tensor]:
        recorded = Batch(batch.ids.clone(), batch.targets.clone())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            loss = super()._learn(recorded, rounded)
        return graph, recorded, loss
