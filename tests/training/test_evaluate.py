"""A tiny adapter is judged through the server's engine."""

import dataclasses
import json

import pytest

from adapters.manifest import check_adapter
from adapters.prompts import Message
from adapters.styles import TERSE
from serving.config import EngineConfig
from training.config import TrainConfig
from training.dataset.rows import Row
from training.evaluate import judge, style_report
from training.judging.asking import PRESETS_OFF
from training.judging.style_report import CONTROLS
from training.report import to_markdown

PROMPTS = ("What is a queue?", "Why {waiting}?")
ROWS = (
    Row((Message("user", "What is a queue?"),), "A line that waits.", "terse"),
    Row((Message("user", "What is a queue?"),), "A line " * 10, "verbose"),
    Row((Message("user", "What is a queue?"),), "Rubbish.", "terse", label=False),
)


def test_styles_are_judged_greedily_without_minimum_and_with_a_generous_maximum():
    assert PRESETS_OFF.greedy
    assert PRESETS_OFF.min_new_tokens == 0
    assert PRESETS_OFF.max_new_tokens >= 512


@pytest.fixture(scope="module")
def config(tiny_adapter):
    return EngineConfig(adapter=tiny_adapter, device="cpu", quantization="none")


@pytest.fixture(scope="module")
def report(config):
    return style_report(config, PROMPTS, ROWS)


@pytest.mark.slow
def test_every_prompt_is_answered_in_every_way(report):
    assert set(report.comparisons) == {"presets_off", "presets_on", *CONTROLS}
    for comparison in report.comparisons.values():
        assert all(len(answers) == len(PROMPTS) for answers in comparison.answers.values())
    assert report.num_answers == 2 * (2 + 2 + 1 + 2 + 2 + 2) + 2 * 5 * 3


@pytest.mark.slow
def test_the_presets_rule_only_where_they_are_on(report):
    on, off = report.comparisons["presets_on"], report.comparisons["presets_off"]

    assert on.scores["terse"].max_tokens <= 32
    assert on.scores["verbose"].min_tokens >= 64
    assert off.scores["terse"].max_tokens > 32
    assert report.comparisons["base_with_presets"].scores["terse"].max_tokens <= 32


@pytest.mark.slow
def test_the_base_answers_without_the_adapter(report):
    styled = report.comparisons["presets_off"].answers
    base = report.comparisons["base_with_style_tokens"].answers

    assert styled["terse"][0].ids != base["terse"][0].ids


@pytest.mark.slow
def test_the_style_token_and_the_instruction_make_a_difference(report):
    def texts(name):
        answers = report.comparisons[name].answers
        return [tuple(tuple(output.ids) for output in outputs) for outputs in answers.values()]

    styled, plain = texts("presets_off"), texts("no_token")
    told = texts("base_with_plain_instructions")
    assert len({*styled, *plain}) == 3
    assert len(set(told)) == 2


@pytest.mark.slow
def test_every_persona_prompt_is_answered_with_three_seeds(report):
    for persona in report.personas.values():
        assert [len(answers) for answers in persona.texts] == [3] * 5
    sampled = report.personas["verbose"]
    assert sampled.word_overlap < 1


@pytest.mark.slow
def test_losses_are_those_of_the_wanted_answers_in_their_style(report):
    assert [loss.num_rows for loss in report.losses.values()] == [1, 1]
    assert list(report.losses) == ["terse", "verbose"]


@pytest.mark.slow
def test_rows_that_make_no_prompt_are_all_named(config):
    odd = [Row((Message("assistant", "Hi."),), "Yes.", "terse", line=line) for line in (7, 9)]

    with pytest.raises(ValueError, match=r"row in line 7: .*\nrow in line 9: "):
        style_report(config, PROMPTS, odd)


@pytest.mark.slow
def test_an_adapter_is_not_judged_on_nothing(config):
    with pytest.raises(ValueError, match="one prompt at least"):
        style_report(config, [])


@pytest.mark.slow
def test_the_scores_get_into_the_manifest_and_the_report_into_the_runs_folder(
    config, tiny_adapter, tiny_base, tmp_path
):
    import shutil

    folder = tmp_path / "tiny"
    shutil.copytree(tiny_adapter, folder)
    manifest = dataclasses.replace(check_adapter(folder), scores={"train_loss": 1.0})
    settings = TrainConfig(
        name="tiny",
        base_model=str(tiny_base),
        train_data="rows.jsonl",
        runs=tmp_path / "runs",
        device="cpu",
        quantization="none",
    )

    judge(folder, manifest, PROMPTS[:1], settings, ROWS)

    scores = check_adapter(folder).scores
    assert scores["train_loss"] == 1.0
    styles = scores["styles"]
    assert styles["num_prompts"] == 1
    assert styles["presets_on"][TERSE.name]["max_tokens"] <= 32
    assert styles["presets_off"]["separation"]["median_ratio"] > 0
    assert styles["heldout"]["num_rows"] == 2
    written = json.loads((tmp_path / "runs" / "tiny" / "report" / "report.json").read_text())
    assert written["presets_off"] == styles["presets_off"]


@pytest.mark.slow
def test_no_more_prompts_are_asked_than_there_is_time_for(config):
    report = style_report(config, PROMPTS * 20, seconds=0.0)

    assert report.prompts == PROMPTS[:1]
    assert report.personas == {}
    assert "## Persona" not in to_markdown(report)
    assert all(len(found) == 1 for found in report.comparisons["presets_on"].answers.values())


@pytest.mark.slow
def test_with_time_enough_every_prompt_is_asked(config):
    report = style_report(config, PROMPTS, seconds=3600.0)

    assert report.prompts == PROMPTS
