import pytest
import torch

from adapters.prompts import Message
from adapters.styles import STYLES
from tests.training.watch.tiny_trainer import QUESTIONS, make_prompt, make_trainer
from training.watch.samples import MAX_NEW_TOKENS, StyleSamples, answer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trainer(tiny_base, tmp_path_factory):
    trainer = make_trainer(
        tiny_base,
        tmp_path_factory.mktemp("run"),
    )
    trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    return trainer


@pytest.fixture(scope="module")
def prompt(tiny_base, tmp_path_factory):
    return make_prompt(tiny_base, tmp_path_factory.mktemp("tokenizer"))[0]


def greedy(model, prompt, question, style):
    """The likeliest answer, one forward pass over everything per token."""
    model.eval()
    ids, allowed = prompt.encode_prompt(question, style.token), torch.ones(384, dtype=torch.bool)
    allowed[list(prompt.control_ids - {prompt.eos_id})] = False
    allowed[prompt.num_tokens :] = False  # rows of the embedding that stand for nothing
    start = len(ids)
    while len(ids) - start < MAX_NEW_TOKENS:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        ids.append(int(logits.masked_fill(~allowed, -torch.inf).argmax()))
        if ids[-1] == prompt.eos_id:
            return ids[start:-1], True
    return ids[start:], False


def test_every_question_is_answered_in_every_style_with_the_likeliest_tokens(trainer, prompt):
    questions = [QUESTIONS[0], [Message("user", "What is a limit? A much longer question.")]]

    samples = answer(trainer.model, prompt, questions, STYLES)

    asked = [(question, style) for question in questions for style in STYLES]
    for sample, (question, style) in zip(samples, asked, strict=True):
        ids, ended = greedy(trainer.model, prompt, question, style)
        assert (sample.prompt, sample.style) == (question[-1].content, style.name)
        assert (sample.text, sample.tokens) == (prompt.decode(ids), len(ids))
        assert sample.ended is ended


def test_an_answer_ends_where_the_model_ends_it(trainer, prompt):
    head = trainer.model.get_output_embeddings()
    ends_at_once = head.register_forward_hook(
        lambda module, inputs, logits: logits.index_fill(-1, torch.tensor([prompt.eos_id]), 1e9)
    )
    try:
        samples = answer(trainer.model, prompt, QUESTIONS[:1], STYLES)
    finally:
        ends_at_once.remove()

    assert [(sample.text, sample.tokens, sample.ended) for sample in samples] == [("", 0, True)] * 2


def test_control_tokens_and_unused_rows_cannot_come_out(trainer, prompt):
    undisturbed = answer(trainer.model, prompt, QUESTIONS[:1], STYLES)
    wanted = [*(prompt.control_ids - {prompt.eos_id}), *range(prompt.num_tokens, 384)]
    head = trainer.model.get_output_embeddings()
    hook = head.register_forward_hook(
        lambda module, inputs, logits: logits.index_fill(-1, torch.tensor(wanted), 1e9)
    )
    try:
        samples = answer(trainer.model, prompt, QUESTIONS[:1], STYLES)
    finally:
        hook.remove()

    assert samples == undisturbed


def test_the_model_trains_on_as_if_nothing_had_been_asked(trainer, prompt):
    model = trainer.model
    model.train()
    random_state = torch.random.get_rng_state()

    answer(model, prompt, QUESTIONS[:1], STYLES)

    assert model.training
    assert model.config.use_cache is False
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert model.get_base_model().is_gradient_checkpointing


def test_the_cache_is_used_though_training_has_none(trainer, prompt):
    lengths = []
    model = trainer.model.get_base_model().model
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]),
        with_kwargs=True,
    )
    try:
        answer(trainer.model, prompt, QUESTIONS[:1], STYLES)
    finally:
        hook.remove()

    assert lengths[0] > 1
    assert set(lengths[1:]) == {1}


def test_an_error_leaves_the_model_as_it_was(trainer, prompt, monkeypatch):
    model = trainer.model
    model.train()
    monkeypatch.setattr(model, "generate", lambda **_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        answer(model, prompt, QUESTIONS[:1], STYLES)

    assert model.training
    assert model.config.use_cache is False


def test_a_base_in_half_precision_answers_with_an_adapter_in_single(tiny_base, prompt):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from training.config import TrainConfig
    from training.model import cast_trained, lora_config

    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16)
    config = TrainConfig(name="tiny", base_model="x", train_data="x")
    model = get_peft_model(base, lora_config(config, {"terse": 5, "verbose": 6}))
    cast_trained(model, torch.float32)

    assert len(answer(model, prompt, QUESTIONS[:1], STYLES)) == 2


def test_a_step_that_is_evaluated_twice_is_answered_once(trainer, prompt):
    recorded = []
    samples = StyleSamples(prompt, QUESTIONS[:1], STYLES, recorded.append)
    state = trainer.state
    state.is_world_process_zero = True

    for step in (5, 5, 6):
        state.global_step = step
        samples.on_evaluate(trainer.args, state, trainer.control, model=trainer.model)

    assert [entry.step for entry in recorded] == [5, 6]


def test_only_the_main_process_asks(trainer, prompt):
    recorded = []
    state = trainer.state
    state.is_world_process_zero = False

    StyleSamples(prompt, QUESTIONS[:1], STYLES, recorded.append).on_evaluate(
        trainer.args, state, trainer.control, model=trainer.model
    )

    assert recorded == []
