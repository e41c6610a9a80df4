"""A pass of a model that hands the logits of some of its tokens to whoever scores them."""

import random

import pytest
import torch

from tests.serving.conftest import NUM_TOKENS
from tests.serving.test_attention import step_of
from tests.serving.test_decoder import build, logits_of
from tests.serving.test_logprobs import CONFIGS, DECODERS, each_decoder


@each_decoder
@pytest.mark.parametrize("parts", [[], [(0, 40)], [(3, 9), (9, 20)], [(20, 33), (33, 39)]])
def test_a_pass_gives_the_same_logits_whatever_is_scored_and_reads_no_token_twice(kind, parts):
    class Recorder:
        def __init__(self):
            self.parts, self.taken = [slice(*part) for part in parts], []
            self.take = self.taken.append

    model, recorder = build(CONFIGS[kind]), Recorder()
    ids = random.Random(1).choices(range(NUM_TOKENS), k=40)
    wanted = logits_of(model, ids)
    num_read = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: num_read.append(inputs[0].numel())
    )
    step_model = DECODERS[kind](model)
    step_model.allocate_cache(64)

    with torch.inference_mode():
        following = step_model.forward(step_of((0, 0, ids)), recorder)

    torch.testing.assert_close(following, wanted[-1:], atol=1e-4, rtol=1e-4)
    for part, found in zip(parts, recorder.taken, strict=True):
        torch.testing.assert_close(found, wanted[slice(*part)], atol=1e-4, rtol=1e-4)
    assert sum(num_read) == (40 if kind == "plain" else 0)
