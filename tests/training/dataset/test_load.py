"""From files to examples, and what the report says of them."""

import json

import pytest

from tests.training.dataset.conftest import settings, styled_prompt, write_lines
from training.dataset.load import examine, load_examples
from training.dataset.methods import LABELLED_FALSE
from training.dataset.rows import DataError

ROWS = [
    {"prompt": f"What is number {n}?", "completion": text, "style": style}
    for n in range(20)
    for style, text in (("terse", "A number."), ("verbose", "A number, " * 6 + "at length."))
]


@pytest.fixture
def heldout(tmp_path):
    rows = ({"prompt": f"What is item {n}?", "completion": "An item."} for n in range(3))
    return write_lines(tmp_path / "heldout.jsonl", *rows)


def lines_of(error):
    return str(error.value).splitlines()


def test_rows_become_ids_to_learn_and_ids_to_measure(path, prompt):
    write_lines(path, *ROWS)

    examples = load_examples(settings(path), prompt)

    assert len(examples.train) == len(examples.train_rows)
    assert len(examples.heldout) == len(examples.heldout_rows) > 0
    assert len(examples.train) + len(examples.heldout) == 40
    assert examples.train.column_names == ["input_ids", "completion_mask", "style"]
    assert {row.prompt for row in examples.train_rows}.isdisjoint(examples.heldout_questions)


def test_held_out_rows_may_be_given(path, heldout, prompt):
    write_lines(path, *ROWS)

    examples = load_examples(settings(path, heldout_data=str(heldout)), prompt)

    assert len(examples.train) == 40
    assert examples.heldout_questions == [f"What is item {n}?" for n in range(3)]
    assert [source.name for source in examples.report.sources] == ["rows.jsonl", "heldout.jsonl"]


def test_nothing_may_be_held_out(path, prompt):
    write_lines(path, *ROWS)

    examples = load_examples(settings(path, validation_share=0.0), prompt)

    assert len(examples.train) == 40
    assert len(examples.heldout) == 0


def test_the_opening_question_of_a_conversation_is_what_is_asked(path, heldout):
    chat = [
        {"role": role, "content": text}
        for role, text in (("user", "Hi."), ("assistant", "Hello."), ("user", "And?"))
    ]
    write_lines(path, *ROWS)
    chat = [{"role": "system", "content": "Be kind."}, *chat]
    write_lines(heldout, {"messages": [*chat, {"role": "assistant", "content": "Well."}]})
    prompt = styled_prompt(
        chat_template="{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )

    examples = load_examples(settings(path, heldout_data=str(heldout)), prompt)

    assert examples.heldout_questions == ["Hi."]


# Rows that cannot be used


def test_every_problem_of_both_files_is_told_at_once(path, heldout, prompt):
    write_lines(path, {"prompt": ""}, *ROWS, {"prompt": "x" * 9000, "completion": "a"})
    leak = {"prompt": "What is number 3?", "completion": "A."}
    write_lines(heldout, {"prompt": "a"}, leak, {"prompt": "b", "completion": "c"})

    with pytest.raises(DataError) as caught:
        load_examples(settings(path, heldout_data=str(heldout)), prompt)

    places = [line.split(": ")[0] for line in lines_of(caught)]
    assert places == ["rows.jsonl:1"] * 2 + [
        "rows.jsonl:42",
        "heldout.jsonl:1",
        "heldout.jsonl:2",
        "on_bad_row=skip leaves out the rows that cannot be used",
    ]


def test_rows_that_cannot_be_used_are_left_out_and_counted_on_request(path, prompt):
    write_lines(path, {"prompt": ""}, ROWS[0], *ROWS)

    examples = load_examples(settings(path, on_bad_row="skip", validation_share=0.0), prompt)

    assert len(examples.train) == 40
    assert examples.report.counts("refused") == {
        "empty content": 1,
        "null content": 1,
        "duplicate": 1,
    }
    [source] = examples.report.sources
    assert (source.num_rows, source.num_refused) == (42, 2)


def test_a_leak_is_left_out_of_what_is_measured_on_request(path, heldout, prompt):
    write_lines(path, *ROWS)
    heldout.write_text(heldout.read_text() + json.dumps(ROWS[0]))

    config = settings(path, heldout_data=str(heldout), on_bad_row="skip")
    examples = load_examples(config, prompt)

    assert len(examples.train) == 40
    assert len(examples.heldout) == 3
    assert examples.report.counts("refused") == {"leak": 1}


@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
def test_a_row_that_is_too_long_stops_the_run_in_any_case(path, prompt, on_bad_row):
    write_lines(path, *ROWS)

    with pytest.raises(DataError, match="max_length is 20"):
        load_examples(settings(path, max_length=20, on_bad_row=on_bad_row), prompt)


def test_data_that_yields_nothing_is_an_error_in_any_case(path, prompt):
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write_lines(path, {"messages": chat, "label": False}, {"messages": []})

    with pytest.raises(DataError) as caught:
        load_examples(settings(path, on_bad_row="skip"), prompt)

    [line] = lines_of(caught)
    assert line == (
        f"rows.jsonl: yields nothing to learn (rows that cannot be used: 1; {LABELLED_FALSE}: 1)"
    )


def test_a_held_out_file_that_yields_nothing_is_an_error_too(path, heldout, prompt):
    write_lines(path, *ROWS)
    write_lines(heldout, ROWS[0])

    with pytest.raises(DataError, match=r"heldout.jsonl: yields nothing to measure"):
        load_examples(settings(path, heldout_data=str(heldout), on_bad_row="skip"), prompt)


def test_a_missing_file_is_told_once(tmp_path, prompt):
    with pytest.raises(DataError) as caught:
        load_examples(settings(tmp_path / "nowhere.jsonl"), prompt)

    assert lines_of(caught) == [f"{tmp_path / 'nowhere.jsonl'}: there is no such file"]


def test_rows_that_the_method_cannot_use_are_told_once(path, prompt):
    write_lines(path, *ROWS)

    with pytest.raises(DataError, match="method dpo needs pairs") as caught:
        load_examples(settings(path, method="dpo"), prompt)

    assert len(lines_of(caught)) == 1


def test_pairs_become_the_columns_of_dpo(path, prompt):
    pairs = ({"prompt": f"{n}?", "chosen": "A.", "rejected": "B."} for n in range(4))
    write_lines(path, *pairs)

    examples = load_examples(settings(path, method="dpo", validation_share=0.0), prompt)

    assert examples.train.column_names == ["prompt_ids", "chosen_ids", "rejected_ids", "style"]


def test_looking_at_data_raises_nothing(path, prompt):
    write_lines(path, {"prompt": ""})

    examples = examine(settings(path), prompt)

    assert len(examples.train) == 0
    assert [problem.kind for problem in examples.report.problems][-1] == "nothing left"


def test_a_single_question_cannot_be_split(path, prompt):
    write_lines(path, *ROWS[:2])

    examples = load_examples(settings(path), prompt)

    assert (len(examples.train), len(examples.heldout)) == (2, 0)
    assert [p.kind for p in examples.report.problems] == ["no split"]


# The report


def test_the_report_counts_examples_styles_and_tokens(path, prompt):
    asked = {"prompt": "Explain number 30 briefly.", "completion": "A number."}
    plain = {"prompt": "What is number 31?", "completion": "A number."}
    write_lines(path, *ROWS, asked, plain)

    report = load_examples(settings(path, validation_share=0.0), prompt).report

    assert report.train.num_examples == {"terse": 22, "verbose": 20}
    assert report.train.style_origins == {"named": 40, "words": 1, "default": 1}
    tokens = len(prompt.encode_words("A number."))
    assert report.train.answer_tokens["terse"].p50 == tokens
    assert report.train.answer_tokens["verbose"].min > 6 * 2
    assert report.heldout.num_examples == {"terse": 0, "verbose": 0}
    assert report.heldout.answer_tokens == {}


def test_the_report_is_plain_data_for_the_manifest(path, prompt):
    odd = {"prompt": "What is </s>?", "completion": "A token."}
    write_lines(path, *ROWS, odd, {"prompt": "a"})

    report = load_examples(settings(path, on_bad_row="skip"), prompt).report

    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["sources"][0]["format"] == "prompt-completion"
    assert plain["sources"][0]["detected"] is True
    assert plain["problems"] == {"null content": 1}
    assert plain["notices"] == {"template in the words": 1}
    assert set(plain["train"]["answer_tokens"]["terse"]) == {"min", "p10", "p50", "p90", "max"}


def test_the_same_data_gives_the_same_examples(path, prompt):
    write_lines(path, *ROWS)

    first, second = (load_examples(settings(path), prompt) for _ in range(2))

    assert first.train_rows == second.train_rows
    assert first.train.to_list() == second.train.to_list()


def test_more_problems_than_anyone_reads_are_counted_by_kind(path, prompt):
    write_lines(path, *({"prompt": f"{n}?", "completion": ""} for n in range(60)), {"prompt": "a"})

    with pytest.raises(DataError) as caught:
        load_examples(settings(path), prompt)

    lines = lines_of(caught)
    assert len(lines) == 50 + 3
    assert lines[50].startswith("and ")
    assert "data check" in lines[51]
