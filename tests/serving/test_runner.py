import copy
import random

import pytest
import torch

from serving.base_model import load_base
from serving.kv_cache import CacheRun
from serving.loader import attach_adapter
from serving.runner import Runner, _buckets
from serving.sampling import SamplingParams
from serving.scheduler import Chunk, Job, Move
from tests.serving.fakes import HashModel, ScriptedModel

EOS = 2
A, B, C = (10, 11, 12), (20, 21), (30,)


def make_runner(model, *, max_rows=4, eos_ids=(EOS,), suppressed_ids=()):
    settings = {"max_rows": max_rows, "eos_ids": eos_ids, "suppressed_ids": suppressed_ids}
    return Runner(model, cache_tokens=4096, **settings)


def make_job(ids, start, **params):
    return Job(list(ids), SamplingParams(**params), CacheRun(start, 512))


def whole(job):
    return Chunk(job, 0, len(job.prompt_ids))


@pytest.fixture
def steps():
    """What reached the model."""
    return []


def spied(model, steps):
    """A model whose steps are kept as they are now: their tensors change with the rows."""
    model.hooks.append(lambda step: steps.append(copy.deepcopy(step)))
    return model


# What the model is given


def test_prompts_are_read_one_behind_the_other(steps):
    runner = make_runner(spied(ScriptedModel({A: [50], B: [60]}), steps))

    tokens = runner.read([whole(make_job(A, 64)), whole(make_job(B, 512))], 0)

    assert tokens.wait() == [50, 60]
    [step] = steps
    assert step.ids.tolist() == [*A, *B]
    assert step.positions.tolist() == [0, 1, 2, 0, 1]
    assert step.slots.tolist() == [64, 65, 66, 512, 513]
    assert step.ends.tolist() == [0, 3, 5]
    assert step.starts.tolist() == [64, 512, 0]
    assert step.lengths.tolist() == [3, 2]
    assert step.most_tokens == 3


def test_every_row_generates_behind_its_own_prompt(steps):
    runner = make_runner(spied(ScriptedModel({A: [50, 51, 52], B: [60, 61, 62]}), steps))
    runner.read([whole(make_job(A, 64)), whole(make_job(B, 512))], 0)

    generated = [runner.generate(2).wait() for _ in range(2)]

    assert generated == [[51, 61], [52, 62]]
    assert [step.ids.tolist() for step in steps[1:]] == [[50, 60], [51, 61]]
    assert [step.positions.tolist() for step in steps[1:]] == [[3, 2], [4, 3]]
    assert [step.slots.tolist() for step in steps[1:]] == [[67, 514], [68, 515]]
    assert [step.lengths.tolist() for step in steps[1:]] == [[4, 3], [5, 4]]
    assert steps[1].ends.tolist() == [0, 1, 2]
    assert steps[1].starts.tolist() == [64, 512, 4096]  # the last one is the cache's spare place
    assert steps[1].most_tokens == 1


def test_a_prompt_read_in_parts_gives_its_token_at_its_end(steps):
    runner = make_runner(spied(HashModel(), steps))
    job = make_job(range(40, 60), 512)
    other = make_runner(HashModel()).read([whole(make_job(range(40, 60), 0))], 0)

    tokens = [runner.read([Chunk(job, *part)], 0).wait() for part in ((0, 8), (8, 8), (16, 4))]

    assert tokens == [[], [], other.wait()]
    assert steps[1].positions.tolist() == list(range(8, 16))
    assert steps[1].slots.tolist() == list(range(520, 528))
    assert steps[1].lengths.tolist() == [16]


def test_only_complete_prompts_among_parts_become_rows():
    runner = make_runner(ScriptedModel({A: [50, 51], B: [60, 61], C: [70, 71]}))
    part = Chunk(make_job([9] * 20, 1024), 0, 8)
    runner.read([whole(make_job(C, 0))], 0)

    first = runner.read([part, whole(make_job(A, 64)), part, whole(make_job(B, 512))], 1)

    assert first.wait() == [50, 60]
    assert runner.generate(3).wait() == [71, 51, 61]


def test_tokens_are_those_of_their_step_whenever_they_are_looked_at():
    runner = make_runner(ScriptedModel({A: [50, 51, 52]}))

    tokens = [runner.read([whole(make_job(A, 0))], 0), runner.generate(1), runner.generate(1)]

    assert [each.wait() for each in reversed(tokens)] == [[52], [51], [50]]


def test_nothing_is_kept_for_gradients():
    model = HashModel()
    modes = []
    model.hooks.append(lambda step: modes.append(torch.is_inference_mode_enabled()))
    runner = make_runner(model)

    runner.read([whole(make_job(A, 0))], 0)
    runner.generate(1)

    assert modes == [True, True]


# How tokens are chosen


def test_a_suppressed_token_is_not_generated_for_anybody():
    runner = make_runner(ScriptedModel({A: [50], B: [51]}), suppressed_ids=[50, 51])

    tokens = runner.read([whole(make_job(A, 0)), whole(make_job(B, 64))], 0).wait()

    assert set(tokens).isdisjoint({50, 51})


def test_a_row_can_suppress_tokens_of_its_own():
    runner = make_runner(ScriptedModel({A: [50]}))
    jobs = [make_job(A, 0, suppressed_ids=(50,)), make_job(A, 64)]

    strict, free = runner.read([whole(job) for job in jobs], 0).wait()

    assert strict != 50
    assert free == 50


@pytest.mark.parametrize(("minimum", "place"), [(0, 1), (1, 1), (2, 2), (4, 4)])
def test_no_end_of_text_comes_before_the_minimum(minimum, place):
    runner = make_runner(ScriptedModel({A: [EOS]}))
    tokens = runner.read([whole(make_job(A, 0, min_new_tokens=minimum))], 0).wait()

    for _ in range(5):
        tokens += runner.generate(1).wait()

    assert tokens.index(EOS) == place


def test_any_of_several_tokens_can_be_the_end_of_the_text():
    runner = make_runner(ScriptedModel({A: [3], B: [4]}), eos_ids=[3, 4])
    tokens = [runner.read([whole(make_job(A, 0)), whole(make_job(B, 64))], 0).wait()]

    tokens.append(runner.generate(2).wait())

    assert set(tokens[0]).isdisjoint({3, 4})
    assert tokens[1] == [3, 4]


def test_no_token_is_read_as_one_in_the_step_under_way(steps):
    runner = make_runner(spied(ScriptedModel({A: [50, None, 52], B: [60]}), steps))
    runner.read([whole(make_job(A, 0)), whole(make_job(B, 64))], 0)

    generated = [runner.generate(2).wait() for _ in range(2)]

    assert generated == [[-1, 60], [52, 60]]
    assert steps[2].ids.tolist() == [0, 60]


# Rows that leave


def start_three():
    """Three rows and the runner that they are on."""
    runner = make_runner(ScriptedModel({A: [50, 51, 52], B: [60, 61, 62], C: [70, 71, 72]}))
    runner.read([whole(make_job(ids, 512 * n)) for n, ids in enumerate((A, B, C))], 0)
    return runner


def test_the_last_row_goes_on_in_the_place_of_one_that_left():
    runner = start_three()

    runner.remove(0, 0, Move(2, 0))

    assert [runner.generate(2).wait() for _ in range(2)] == [[71, 61], [72, 62]]


def test_the_last_row_can_leave():
    runner = start_three()

    runner.remove(2, 1024, None)

    assert runner.generate(2).wait() == [51, 61]


def test_a_place_that_was_left_can_be_filled_again():
    runner = start_three()
    runner.remove(0, 0, Move(2, 0))

    first = runner.read([whole(make_job(A, 0))], 2).wait()

    assert first == [50]
    assert runner.generate(3).wait() == [71, 61, 51]


@pytest.mark.parametrize(("row", "move"), [(1, Move(2, 1)), (2, None)])
def test_what_left_is_released_and_writes_to_no_place_of_the_cache(row, move):
    runner = start_three()

    runner.remove(row, 512 * row, move)

    assert runner.model.released == [512 * row]
    rows = runner._rows
    assert rows.start[2:].tolist() == [4096] * 3
    assert rows.active.tolist() == [1, 1, 0, 0, 0]


# The device


def test_a_processor_needs_no_graphs_and_has_nothing_to_recover():
    runner = make_runner(HashModel(), max_rows=3)
    sizes = []

    runner.capture(sizes.append)
    runner.recover()

    assert not runner.overlaps
    assert runner.buckets == sizes == []
    assert runner.describe() == f"3 rows, {torch.get_num_threads()} threads"


@pytest.mark.parametrize(
    ("max_rows", "sizes"),
    [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])],
)
def test_there_is_a_graph_for_twice_as_many_rows_up_to_the_most(max_rows, sizes):
    assert _buckets(max_rows) == sizes


# Against transformers, on a real model


def make_prompts():
    source = random.Random(0)
    lengths = [1, 2, 119, 120, *(source.randint(1, 120) for _ in range(20))]
    return [[source.randrange(384) for _ in range(length)] for length in lengths]


PROMPTS = make_prompts()
EOS_IDS = list(range(30))  # so many that about half of the answers end by themselves
SUPPRESSED_IDS = list(range(30, 384, 7))
MAX_NEW_TOKENS = 12


@pytest.fixture(scope="module")
def expected(tiny):
    """What transformers itself generates for each prompt alone, up to the end of the text."""
    model = attach_adapter(load_base(tiny.base, "cpu", "none"), tiny.adapter).eval()
    answers = []
    for prompt in PROMPTS:
        ids = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            min_new_tokens=1,
            eos_token_id=EOS_IDS,
            suppress_tokens=SUPPRESSED_IDS,
            pad_token_id=0,
        )
        answers.append(ids[0, len(prompt) :].tolist())
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, len(PROMPTS)])
def test_prompts_of_all_lengths_are_answered_as_transformers_does(loaded, expected, together):
    runner = make_runner(
        loaded.model, max_rows=together, eos_ids=EOS_IDS, suppressed_ids=SUPPRESSED_IDS
    )
    answers = []

    for first in range(0, len(PROMPTS), together):
        prompts = PROMPTS[first : first + together]
        jobs = [make_job(prompt, 144 * row) for row, prompt in enumerate(prompts)]
        steps = [runner.read([whole(job) for job in jobs], 0).wait()]
        steps += [runner.generate(together).wait() for _ in range(MAX_NEW_TOKENS - 1)]
        answers += zip(*steps, strict=True)

    assert [list(ids[: len(wanted)]) for ids, wanted in zip(answers, expected, strict=True)] == (
        expected
    )
    assert 5 <= sum(len(ids) == MAX_NEW_TOKENS for ids in expected) <= len(expected) - 5
