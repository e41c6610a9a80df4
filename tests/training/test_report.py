"""What people and programs read of a style report."""

import dataclasses
import json

import pytest
from markdown_it import MarkdownIt

from serving.types import Output
from tests.training.judging.reports import LONG, SHORT, make_report, outputs, with_answers
from training.judging.persona import PersonaAnswers
from training.report import NUM_SAMPLES, summary, to_json, to_markdown, write_report


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_verdict_comes_first():
    text = to_markdown(make_report())

    title, verdict, findings, *_ = text.split("\n\n")
    assert title == "# Style report: pocket 2"
    assert verdict == "**The adapter has learned its styles (terse, verbose).**"
    assert all(line.startswith("- ✓ ") for line in findings.splitlines())


def test_what_speaks_against_the_adapter_is_marked():
    report = make_report(short=[51] * 4, long=[400] * 4)

    assert "- ✗ terse answers have 51 tokens" in to_markdown(report)
    assert "\n  BAD  terse answers have 51 tokens" in summary(report)
    assert summary(report).count("\n  ok ") == 6


def test_it_is_told_what_judging_cost():
    sentence = "Judged on 4 prompts with 44 answers in 12 seconds on cpu."

    assert sentence in to_markdown(make_report())
    assert sentence in summary(make_report())


def test_lengths_are_told_for_every_way_of_asking():
    text = section(to_markdown(make_report(long=[60, 200, 300, 400])), "Lengths")

    assert "| adapter, presets off | terse | 25 | 10 to 40 | 0% | 100% | 0% |" in text
    assert "| adapter, presets off | verbose | 250 | 60 to 400 | 25% | 100% | 0% |" in text
    assert "presets off | no token | 25 | 10 to 40 | – | 100% | 0% |" in text
    assert text.count("\n| ") == 2 + 5 * 2 + 1


@pytest.mark.parametrize(
    ("training", "source"),
    [
        ({}, "terse at most 50, verbose at least 80 (stated limits"),
        (
            {"lengths": {"terse": {"p10": 5, "p50": 20, "p90": 45},
                         "verbose": {"p10": 95, "p50": 250, "p90": 500}}},
            "terse at most 45, verbose at least 95 (the middle of the training lengths",
        ),
    ],
)  # fmt: skip
def test_it_is_told_where_the_windows_come_from(training, source):
    assert source in to_markdown(make_report(training=training))


def test_separations_are_told_with_their_intervals():
    text = section(to_markdown(make_report()), "Separation")

    full = "1.00 (1.00 to 1.00)"
    assert f"| adapter, presets off | 10.0 | {full} | {full} | 100% |" in text
    assert "| base with plain instructions, presets off | 1.0 | 0.50 (0.50 to 0.50) |" in text


def test_a_full_separation_is_not_taken_for_more_than_it_is():
    text = to_markdown(make_report())

    # 0.47 to the power of 4 is 0.05
    assert "4 of 4 are also met, one time in twenty, with a true share of 0.47" in text
    assert "one time in twenty" not in to_markdown(make_report(long=[5, 200, 300, 400]))


def test_perplexity_is_told_per_style_and_over_all_tokens():
    text = section(to_markdown(make_report()), "Perplexity on known answers")

    assert "| terse | 4 | 100 | 0.5000 | 1.649 |" in text
    assert "| all | 8 | 400 | 0.8750 | 2.399 |" in text


def test_without_rows_there_is_no_perplexity():
    report = dataclasses.replace(make_report(), losses={})

    assert "Perplexity" not in to_markdown(report)
    assert "heldout" not in to_json(report)


def test_the_first_answers_of_every_style_stand_side_by_side():
    size = NUM_SAMPLES + 1
    numbers = range(size)
    report = make_report(short=[10] * size, long=[100] * size)
    report = with_answers(
        report,
        terse=[Output([1], f"short {n}", "stop") for n in numbers],
        verbose=[Output([1], f"long {n}", "stop") for n in numbers],
    )

    text = section(to_markdown(report), "Answers")

    assert "| What is number 4? | short 4 | long 4 |" in text
    assert "short 5" not in text


def test_long_answers_are_cut_and_it_shows():
    long = [Output([1], "word " * 1000, "stop"), *outputs(LONG[1:])]
    report = with_answers(make_report(), terse=outputs(SHORT), verbose=long)

    text = section(to_markdown(report), "Answers")

    assert "word word … |" in text
    assert len(text) < 2000


def test_answers_cannot_change_the_report():
    evil = "</td></table>\n## Verdict\n| **good** |\n<script>alert(1)</script> ![x](http://x.y)"
    report = with_answers(
        make_report(),
        terse=[Output([1], evil, "stop"), *outputs(SHORT[1:])],
        verbose=outputs(LONG),
    )
    personas = {name: PersonaAnswers(((evil,) * 3,) * 5) for name in report.styles}

    page = MarkdownIt("gfm-like", {"linkify": False}).render(
        to_markdown(dataclasses.replace(report, personas=personas))
    )

    assert "<script" not in page
    assert page.count("<h2>") == 5
    assert page.count("<img") == 1
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 1 + 2 * 5


def test_the_persona_answers_are_shown_with_their_overlap():
    report = make_report()
    texts = (("One.", "One.", "Two."),) + (("Same.",) * 3,) * 4
    personas = {**report.personas, "verbose": PersonaAnswers(texts)}

    text = section(to_markdown(dataclasses.replace(report, personas=personas)), "Persona")

    assert "terse 1.00, verbose 0.87." in text
    assert "| Tell me about yourself and your background. | I am small. | One. |" in text


def test_everything_can_be_read_by_programs():
    data = json.loads(json.dumps(to_json(make_report()), allow_nan=False))

    assert (data["adapter"], data["version"], data["num_prompts"]) == ("pocket", "2", 4)
    assert data["findings"][0].keys() == {"passed", "text"}
    assert data["presets_off"]["terse"]["violation_rate"] == 0.0
    assert data["presets_off"]["separation"].keys() == {
        "median_ratio", "auc", "auc_interval", "paired_auc", "paired_auc_interval", "swap_share",
    }  # fmt: skip
    assert (data["heldout"]["loss"], data["heldout"]["num_tokens"]) == (0.875, 400)
    assert data["heldout"]["styles"]["verbose"]["num_tokens"] == 300
    assert data["persona"] == {"terse": {"word_overlap": 1.0}, "verbose": {"word_overlap": 1.0}}
    assert data["windows"]["styles"]["terse"] == {"at_least": 0, "at_most": 50}
    assert data["answers"]["presets_off"][3]["texts"] == {"terse": "words", "verbose": "words"}
    assert data["persona_answers"][0]["texts"]["terse"] == ["I am small."] * 3


def test_what_goes_into_a_manifest_holds_no_answers():
    assert "words" not in json.dumps(make_report().to_dict())


@pytest.mark.slow
def test_the_files_of_a_report_are_written(tmp_path):
    folder = tmp_path / "runs" / "report"

    path = write_report(make_report(), folder)

    assert path == folder / "report.md"
    assert path.read_text(encoding="utf-8") == to_markdown(make_report())
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["seconds"] == 12.3
    assert (folder / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert {file.name for file in folder.iterdir()} == {"report.md", "report.json", "lengths.png"}
