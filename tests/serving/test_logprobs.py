"""Log-probabilities of tokens, from the request to the output of the engine's core."""

import itertools
import random

import pytest
import torch
from transformers import GPT2Config, MistralConfig

from serving import logprobs
from serving.config import EngineConfig
from serving.core import EngineCore
from serving.decoder import Decoder
from serving.errors import GenerationError
from serving.plain import PlainDecoder
from serving.sampling import SamplingParams
from serving.scheduler import Job
from tests.serving.conftest import NUM_TOKENS
from tests.serving.fakes import HashModel, Poison, ScriptedModel, finish
from tests.serving.test_decoder import SIZES, build, logits_of

pytestmark = pytest.mark.slow

EOS = 2
MAX_LENGTH = 128
LARGER = {**SIZES, "vocab_size": NUM_TOKENS, "max_position_embeddings": MAX_LENGTH}
CONFIGS = {
    "decoder": MistralConfig(**LARGER, sliding_window=None),
    "plain": GPT2Config(vocab_size=NUM_TOKENS, n_positions=MAX_LENGTH, n_embd=32, n_layer=2,
                        n_head=2, initializer_range=0.3),
}  # fmt: skip
DECODERS = {
    "decoder": lambda model: Decoder(model, max_length=MAX_LENGTH, dense=False),
    "plain": lambda model: PlainDecoder(model, max_length=MAX_LENGTH),
}
each_decoder = pytest.mark.parametrize("kind", CONFIGS)


def score_with_transformers(model, ids):
    """The log-probability of every token but the first, and all those in its place."""
    every = logits_of(model, ids)[:-1].log_softmax(-1)
    return every.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist(), every


def scored_job(ids, **params):
    """A job whose whole prompt is to be scored."""
    return Job(list(ids), SamplingParams(**params), scored=range(1, len(ids)))


def make_prompts(count=6):
    source = random.Random(0)
    lengths = [1, 2, 7, 8, 60, *(source.randint(1, 60) for _ in range(count))]
    return [source.choices(range(7, NUM_TOKENS), k=length) for length in lengths]


@pytest.fixture
def real_core(put_in, each_runner):
    """Makes cores on a real model; returns transformers' own one as well."""

    def make(kind, **values):
        model = build(CONFIGS[kind])
        config = EngineConfig(max_prompt_tokens=96, max_new_tokens=16, **values)
        step_model = DECODERS[kind](build(CONFIGS[kind]))
        return model, EngineCore(put_in(step_model), config)

    return make


@pytest.fixture(autouse=True)
def _no_endless_answers(monkeypatch):
    """A test fails, and does not hang, where an answer never ends."""
    steps, step = itertools.count(), EngineCore.step

    def counted(core):
        assert next(steps) < 5000, "it never ends"
        step(core)

    monkeypatch.setattr(EngineCore, "step", counted)


def assert_scored(output, model, job):
    """The scores of prompt and answer are those that transformers computes for both together."""
    wanted, every = score_with_transformers(model, [*job.prompt_ids, *output.ids])
    found = [*output.prompt_logprobs, *output.logprobs]
    ids = [*job.prompt_ids, *output.ids][1:]
    if job.params.logprobs is None:
        wanted, ids = wanted[: len(job.prompt_ids) - 1], ids[: len(job.prompt_ids) - 1]
    assert [token.token_id for token in found] == ids
    assert [token.logprob for token in found] == pytest.approx(wanted, abs=1e-4)
    for token, row in zip(found, every, strict=False):
        best = row.topk(logprobs.num_alternatives(job))
        assert [other.token_id for other in token.top] == best.indices.tolist()
        values = [other.logprob for other in token.top]
        assert values == pytest.approx(best.values.tolist(), abs=1e-4)


# Against transformers


@each_decoder
@pytest.mark.parametrize("budget", [1000, 7], ids=["at once", "in chunks"])
def test_scores_of_a_request_alone_are_those_of_transformers(real_core, kind, budget):
    model, core = real_core(kind, max_batch_size=1, prompt_tokens_per_step=budget)
    jobs = [scored_job(ids, logprobs=3, max_new_tokens=6) for ids in make_prompts(0)]

    outputs = core.run(jobs)

    for output, job in zip(outputs, jobs, strict=True):
        assert_scored(output, model, job)


@each_decoder
@pytest.mark.parametrize("budget", [1000, 25], ids=["at once", "in chunks"])
def test_scores_among_neighbours_are_those_of_transformers(real_core, monkeypatch, kind, budget):
    monkeypatch.setattr(logprobs, "MOST_POSITIONS", 5)
    model, core = real_core(kind, max_batch_size=4, prompt_tokens_per_step=budget)
    asks = [
        lambda ids, n: scored_job(ids, logprobs=n % 5, max_new_tokens=2 + n),
        lambda ids, n: Job(list(ids), SamplingParams(max_new_tokens=9)),
        lambda ids, n: scored_job(ids, max_new_tokens=0),
        lambda ids, n: Job(list(ids), SamplingParams(logprobs=1, max_new_tokens=3)),
    ]
    jobs = [asks[n % 4](ids, n) for n, ids in enumerate(make_prompts(11))]

    outputs = core.run(jobs)

    for output, job in zip(outputs, jobs, strict=True):
        if job.scored or len(job.prompt_ids) == 1:
            assert_scored(output, model, job)
        else:
            assert output.prompt_logprobs == ()
            assert len(output.logprobs) == (0 if job.params.logprobs is None else len(output.ids))


@each_decoder
def test_answers_are_the_same_whether_anybody_asks_for_scores_or_not(real_core, kind):
    prompts = make_prompts()
    settings = [{"temperature": 0.9, "seed": n, "max_new_tokens": 8} for n in range(len(prompts))]
    plain = [Job(list(i), SamplingParams(**s)) for i, s in zip(prompts, settings, strict=True)]
    asking = [scored_job(i, logprobs=2, **s) for i, s in zip(prompts, settings, strict=True)]

    without, alike, mixed = (
        real_core(kind, max_batch_size=4, prompt_tokens_per_step=30)[1].run(jobs)
        for jobs in (plain, asking, [*plain_copy(plain[:4]), *plain_copy(asking[4:])])
    )

    assert [out.ids for out in without] == [out.ids for out in alike] == [out.ids for out in mixed]


def plain_copy(jobs):
    """The same jobs as if nobody had run them."""
    return [Job(list(job.prompt_ids), job.params, scored=job.scored) for job in jobs]


@each_decoder
def test_only_the_part_of_a_prompt_that_is_asked_for_is_scored(real_core, kind):
    model, core = real_core(kind, prompt_tokens_per_step=6)
    [ids] = [ids for ids in make_prompts(0) if len(ids) == 60]
    wanted, _ = score_with_transformers(model, ids)

    for first, end in [(1, 60), (7, 60), (20, 44), (6, 7), (59, 60)]:
        [output] = core.run(
            [Job(list(ids), SamplingParams(max_new_tokens=0), scored=range(first, end))]
        )

        found = [token.logprob for token in output.prompt_logprobs]
        assert found == pytest.approx(wanted[first - 1 : end - 1], abs=1e-4)


# What they are


def test_scores_are_not_changed_by_how_tokens_are_chosen(make_core, caller):
    ids = list(range(40, 60))
    settings = {"max_new_tokens": 1, "logprobs": 20}
    plain, other = (caller(ids, **settings), caller(ids, **settings, temperature=5.0, top_k=3,
                    top_p=0.5, seed=1, suppressed_ids=tuple(range(7, 300))))  # fmt: skip

    [first, second] = finish(make_core(), plain, other)

    assert first.ids != second.ids
    assert first.logprobs[0].top == second.logprobs[0].top
    assert first.logprobs[0].top[0].token_id == first.ids[0]
    chances = [2.718281828**token.logprob for token in first.logprobs[0].top]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) <= 1 + 1e-4


def test_the_end_of_the_text_is_not_among_the_scored_tokens(make_core):
    core = make_core(ScriptedModel({(10, 11): [50, 51, EOS]}))

    [output] = core.run([Job([10, 11], SamplingParams(logprobs=1))])

    assert (output.ids, output.finish_reason) == ([50, 51], "stop")
    assert [token.token_id for token in output.logprobs] == [50, 51]


def test_the_tokens_of_a_stop_string_are_scored(make_core, caller, prompt):
    words = prompt.encode_words("One two. STOP")
    core = make_core(ScriptedModel({(10, 11, 12): words}))

    [output] = finish(core, caller(stop=("STOP",), logprobs=0))

    assert output.text == "One two."
    assert b"".join(token.raw for token in output.logprobs) == b"One two. STOP"


def test_a_prompt_can_be_scored_without_generating(make_core):
    core = make_core()
    ids = list(range(40, 60))

    [output, other] = core.run([scored_job(ids, max_new_tokens=0), Job(ids, SamplingParams())])

    assert (output.ids, output.text, output.finish_reason) == ([], "", "length")
    assert [token.token_id for token in output.prompt_logprobs] == ids[1:]
    assert output.logprobs == ()
    assert other.ids
    assert core.kv_cache_tokens_used == 0


def test_whoever_does_not_ask_pays_nothing(make_core, monkeypatch):
    monkeypatch.setattr(logprobs, "score", None)
    monkeypatch.setattr(logprobs, "Scores", None)

    outputs = make_core().run(
        [Job(ids, SamplingParams(max_new_tokens=9)) for ids in make_prompts()]
    )

    assert {(output.logprobs, output.prompt_logprobs) for output in outputs} == {((), ())}


def test_logits_of_a_long_prompt_exist_for_few_positions_at_a_time(make_core, monkeypatch):
    sizes, score = [], logprobs.score
    monkeypatch.setattr(logprobs, "score", lambda x, *rest: sizes.append(len(x)) or score(x, *rest))
    core = make_core(prompt_tokens_per_step=1000)

    core.run([scored_job([9] * length, max_new_tokens=0) for length in (600, 257)])

    assert sizes == [256, 256, 87, 256]


# When something goes wrong


def test_a_score_that_is_no_number_is_a_failure(make_core, caller):
    class Broken(HashModel):
        def _logits(self, sums):
            return super()._logits(sums) * (float("nan") if len(sums) == 4 else 1.0)

    asking, other = caller(range(40, 45)), caller()
    asking.job.scored = range(1, 5)

    [failed, answered] = finish(make_core(Broken()), asking, other)

    assert isinstance(failed, GenerationError)
    assert "no valid probabilities" in str(failed)
    assert answered.ids


def test_a_prompt_that_had_to_be_read_again_is_scored_once(make_core, caller):
    model = HashModel()
    model.hooks.append(Poison(30))
    asking, poisoned = caller(range(40, 60), logprobs=1, max_new_tokens=2), caller([30])
    asking.job.scored = range(1, 20)

    [output, failed] = finish(make_core(model, prompt_tokens_per_step=30), asking, poisoned)

    assert isinstance(failed, GenerationError)
    assert [token.token_id for token in output.prompt_logprobs] == list(range(41, 60))
    assert len(output.logprobs) == 2


def test_whoever_leaves_before_the_scores_come_is_forgotten(make_core, caller):
    core = make_core(prompt_tokens_per_step=8)
    leaving, staying = caller(range(40, 60), logprobs=1), caller(range(60, 80), logprobs=1)
    leaving.job.scored = staying.job.scored = range(1, 20)
    core.add(leaving.answer)
    core.step()

    leaving.cancelled = True
    [output] = finish(core, staying)

    assert [token.token_id for token in output.prompt_logprobs] == list(range(61, 80))
