import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from adapters.prompts import Message, PromptFormat
from adapters.styles import STYLES, TERSE
from training.arguments import make_arguments
from training.config import TrainConfig
from training.model import cast_trained, load_trainable
from training.preference import (
    LabelTrainer,
    PairTrainer,
    ReferenceError,
    check_reference,
    copy_to_reference,
)
from training.style_tokens import prepare_tokenizer

pytestmark = pytest.mark.slow

QUESTIONS = [f"What is number {number}?" for number in range(8)]


@pytest.fixture(scope="module")
def start(tiny_base, tmp_path_factory):
    """A finished adapter whose every tensor differs from a fresh one's, and its tokenizer."""
    folder = tmp_path_factory.mktemp("start") / "adapter"
    folder.mkdir()
    token_ids = prepare_tokenizer(tiny_base, STYLES, folder)
    prompt = PromptFormat.from_folder(folder)
    model = load_trainable(config_for("sft", folder.parent), tiny_base, prompt, token_ids)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3 if "lora_" in name else 1.0)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder, prompt, token_ids


def config_for(method, folder, **values):
    return TrainConfig(
        name="tiny",
        base_model="tiny",
        train_data="rows.jsonl",
        runs=folder,
        method=method,
        device="cpu",
        quantization=values.pop("quantization", "none"),
        effective_batch_size=4,
        learning_rate=1e-2,
        max_steps=6,
        lora_r=4,
        **values,
    )


def rows_for(method, prompt):
    columns = []
    for number, question in enumerate(QUESTIONS):
        messages = [Message("user", question)]
        long, short = (
            prompt.encode_example(messages, text, TERSE.token)
            for text in ("A rate caps how many requests.", "A client.")
        )
        before = long.input_ids[: long.prompt_length]
        row = {"prompt_ids": before}
        if method == "dpo":
            row["chosen_ids"] = short.input_ids[short.prompt_length :]
            row["rejected_ids"] = long.input_ids[long.prompt_length :]
        else:
            chosen = short if number % 2 else long
            row["completion_ids"] = chosen.input_ids[chosen.prompt_length :]
            row["label"] = bool(number % 2)
        columns.append(row)
    return Dataset.from_list(columns)


@pytest.fixture
def make_trainer(start, tiny_base, tmp_path):
    def make(method, **values):
        folder, prompt, token_ids = start
        config = config_for(method, tmp_path, adapter=folder, **values)
        kind = {"dpo": PairTrainer, "kto": LabelTrainer}[method]
        trainer = kind(
            model=load_trainable(config, tiny_base, prompt, token_ids),
            args=make_arguments(config, torch.device("cpu"), micro_batch_size=4),
            train_dataset=rows_for(method, prompt),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        cast_trained(trainer.model, torch.float32)
        return trainer

    return make


def reference_of(trainer):
    parameters = dict(trainer.model.named_parameters())
    return {name: part for name, part in parameters.items() if ".ref" in name}


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(("method", "wanted"), [("dpo", math.log(2)), ("kto", 0.5)])
def test_the_first_loss_is_that_of_a_policy_that_equals_its_reference(
    make_trainer, method, wanted, quantization
):
    trainer = make_trainer(method, quantization=quantization)

    copy_to_reference(trainer.model)

    assert check_reference(trainer) == pytest.approx(wanted, abs=1e-5)


def test_the_reference_has_the_trained_rows_of_the_style_tokens(make_trainer):
    trainer = make_trainer("dpo")

    copy_to_reference(trainer.model)

    parameters = dict(trainer.model.named_parameters())
    [name] = [name for name in reference_of(trainer) if "trainable_tokens" in name]
    assert torch.equal(parameters[name], parameters[name.replace(".ref", ".default")])
    assert not any(part.requires_grad for part in reference_of(trainer).values())


def test_a_reference_that_is_another_adapter_is_refused(make_trainer):
    trainer = make_trainer("dpo")
    copy_to_reference(trainer.model)
    with torch.no_grad():
        for name, part in reference_of(trainer).items():
            if "lora_B" in name:
                part.normal_(std=3.0)

    with pytest.raises(ReferenceError, match=r"the first loss is .* instead of 0\.6931"):
        check_reference(trainer)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_training_prefers_what_was_chosen_and_leaves_the_reference_alone(make_trainer, method):
    trainer = make_trainer(method)
    copy_to_reference(trainer.model)
    before = {name: part.clone() for name, part in reference_of(trainer).items()}

    trainer.train()

    assert check_loss(trainer) < trainer.first_loss - 0.005
    assert all(torch.equal(before[name], part) for name, part in reference_of(trainer).items())


def check_loss(trainer):
    with pytest.raises(ReferenceError, match="the first loss is") as caught:
        check_reference(trainer)
    return float(str(caught.value).split()[4])


def test_kto_pairs_questions_with_answers_to_others_of_their_micro_batch(make_trainer):
    rows = make_trainer("kto").train_dataset

    answers, others = rows["completion_ids"][:4], rows["KL_completion_ids"][:4]

    assert others == [answers[3], *answers[:3]]
