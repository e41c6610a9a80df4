import random

import pytest
import torch

from adapters.styles import Preset
from serving.loader import load
from serving.runner import Output, Row, generate
from serving.sampler import SamplingParams
from tests.serving.fakes import ScriptedModel

pytestmark = pytest.mark.slow

EOS = 2
MAX_NEW_TOKENS = 12
# So many tokens end an answer that about half of the answers below end by themselves.
EOS_IDS = list(range(30))
SUPPRESSED_IDS = list(range(30, 384, 7))


def greedy(limit, prompt_ids=(1, 7, 8)):
    return Row(list(prompt_ids), SamplingParams(Preset(0.0, 1.0, 0, limit)))


def make_prompts():
    source = random.Random(0)
    lengths = [1, 2, 119, 120, *(source.randint(1, 120) for _ in range(36))]
    return [[source.randrange(384) for _ in range(length)] for length in lengths]


PROMPTS = make_prompts()
ROWS = [greedy(MAX_NEW_TOKENS, prompt) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def expected(loaded):
    """What transformers itself generates for each prompt alone."""
    outputs = []
    for prompt in PROMPTS:
        ids = loaded.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            min_new_tokens=1,
            eos_token_id=EOS_IDS,
            suppress_tokens=SUPPRESSED_IDS,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        stopped = ids[-1] in EOS_IDS
        outputs.append(Output(ids[:-1] if stopped else ids, "stop" if stopped else "length"))
    return outputs


def answer(model, rows):
    return generate(model, rows, eos_ids=EOS_IDS, suppressed_ids=SUPPRESSED_IDS)


# Against transformers, on a real model


def test_the_examples_end_in_both_ways(expected):
    reasons = [output.finish_reason for output in expected]
    assert min(reasons.count("stop"), reasons.count("length")) >= 5


def test_a_prompt_alone_is_answered_as_transformers_does(loaded, expected):
    assert [answer(loaded.model, [row])[0] for row in ROWS] == expected


def test_prompts_of_all_lengths_together_are_answered_as_transformers_does(loaded, expected):
    assert answer(loaded.model, ROWS) == expected


def test_a_sampled_row_gets_the_same_answer_alone_and_in_a_batch(loaded):
    rows = [Row(ids, SamplingParams(Preset(1.0, 0.95, 0, 8), 5)) for ids in PROMPTS]
    together = answer(loaded.model, rows)
    assert [answer(loaded.model, [row])[0] for row in rows[:12]] == together[:12]


def test_no_padding_makes_the_logits_anything_but_numbers(loaded):
    finite = []
    hook = loaded.model.register_forward_hook(
        lambda module, args, output: finite.append(bool(output.logits.isfinite().all()))
    )
    answer(loaded.model, [greedy(4, [1]), greedy(4, [1] * 400)])
    hook.remove()
    assert finite
    assert all(finite)


def test_no_gradients_are_kept(tiny):
    model = load(tiny.config(), with_adapter=False).model  # an adapter would freeze the base
    tracked = []
    model.register_forward_hook(
        lambda module, args, output: tracked.append(output.logits.requires_grad)
    )
    answer(model, [greedy(2)])
    assert tracked == [False, False]


# How answers end, on a scripted model


def test_an_answer_ends_before_the_end_of_text():
    [output] = generate(ScriptedModel([5, 6, EOS, 7]), [greedy(10)], eos_ids=[EOS])
    assert output == Output([5, 6], "stop")


def test_an_answer_ends_at_its_limit():
    [output] = generate(ScriptedModel([5, 6, 7, 8]), [greedy(3)], eos_ids=[EOS])
    assert output == Output([5, 6, 7], "length")


def test_any_of_several_tokens_ends_an_answer():
    rows = [greedy(9), greedy(9)]
    outputs = generate(ScriptedModel([5, 3], [6, 6, 4]), rows, eos_ids=[3, 4])
    assert outputs == [Output([5], "stop"), Output([6, 6], "stop")]


def test_every_row_has_its_own_limit_and_its_own_end():
    model = ScriptedModel([5, 5, EOS], [6], [7], [8, 8, 8, 8, EOS])
    outputs = generate(model, [greedy(9), greedy(1), greedy(6), greedy(4)], eos_ids=[EOS])
    assert outputs == [
        Output([5, 5], "stop"),
        Output([6], "length"),
        Output([7] * 6, "length"),
        Output([8] * 4, "length"),
    ]


def test_what_comes_after_the_end_of_a_row_is_dropped():
    model = ScriptedModel([5, EOS, 9, 9, 9], [6])
    assert generate(model, [greedy(9), greedy(5)], eos_ids=[EOS])[0] == Output([5], "stop")


def test_a_suppressed_token_is_not_generated():
    [output] = generate(ScriptedModel([5]), [greedy(3)], eos_ids=[EOS], suppressed_ids=[5])
    assert 5 not in output.ids


def test_the_batch_ends_with_its_last_row():
    model = ScriptedModel([5, EOS], [6, 6, 6, EOS])
    generate(model, [greedy(50), greedy(50)], eos_ids=[EOS])
    assert model.num_steps == 4


def test_a_batch_that_everybody_abandoned_ends_at_once():
    model = ScriptedModel([5], [6])
    generate(model, [greedy(50), greedy(50)], eos_ids=[EOS], abandoned=lambda: [True, True])
    assert model.num_steps == 1


def test_a_batch_ends_when_the_rows_that_are_left_are_abandoned():
    model = ScriptedModel([5, 5, 5, EOS], [6])
    rows = [greedy(50), greedy(50)]
    outputs = generate(model, rows, eos_ids=[EOS], abandoned=lambda: [False, True])
    assert outputs[0] == Output([5, 5, 5], "stop")
    assert model.num_steps == 4


def test_a_row_that_is_abandoned_halfway_does_not_end_the_others():
    model = ScriptedModel([5], [6])
    rows = [greedy(8), greedy(8)]
    outputs = generate(model, rows, eos_ids=[EOS], abandoned=lambda: [model.num_steps > 2, False])
    assert outputs[1] == Output([6] * 8, "length")


def test_positions_count_the_tokens_of_each_row_from_its_own_first():
    model = ScriptedModel([5], [6])
    generate(model, [greedy(3, [1, 7, 8]), greedy(3, [9])], eos_ids=[EOS])
    prompt, *steps = model.positions
    assert prompt[0] == [0, 1, 2]
    assert prompt[1][-1] == 0
    assert steps == [[[3], [1]], [[4], [2]]]
