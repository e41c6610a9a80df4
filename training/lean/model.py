"""Makes a model with LoRA lean for training."""

from __future__ import annotations

import torch
from peft import PeftModel

from training.lean.attention import use_attention_by_row
from training.lean.layers import lighten_layers
from training.lean.linear import fuse_lora


def make_lean(model: PeftModel, *, rows_end_to_end: bool) -> None:
    """Replace what has a leaner form, in place; what has none stays as it is.

    `rows_end_to_end` tells that batches are laid out without padding.
    """
    # cuDNN's attention prepares anew for every length of a batch, on Hopper for a second and more.
    torch.backends.cuda.enable_cudnn_sdp(False)
    fuse_lora(model)
    lighten_layers(model)
    if rows_end_to_end:
        use_attention_by_row(model.get_base_model())
