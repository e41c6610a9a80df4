"""`python -m training data`, as a shell sees it."""

import json

import pytest

from tests.training.conftest import ROOT
from tests.training.dataset.conftest import write_lines
from training.__main__ import build_parser
from training.config_file import ConfigError

ROWS = [
    {"prompt": f"What is number {n}?", "completion": "A number.", "style": "terse"}
    for n in range(10)
]

pytestmark = pytest.mark.slow


@pytest.fixture
def data(path, monkeypatch):
    """Runs the command on a file of ten rows and more."""
    monkeypatch.chdir(ROOT)

    def run(action, *options, more=()):
        write_lines(path, *ROWS, *more)
        arguments = build_parser().parse_args(["data", action, str(path), *options])
        return arguments.run(arguments)

    return run


def test_good_data_is_ready_to_train(data, capsys):
    assert data("check") == 0
    output = capsys.readouterr().out
    assert "rows.jsonl: 10 rows, format prompt-completion" in output
    assert output.endswith("ready to train (on_bad_row: fail)\n")


def test_rows_that_cannot_be_used_make_exit_code_1(data, capsys):
    assert data("check", more=[{"prompt": "a"}]) == 1
    output = capsys.readouterr().out
    assert "rows.jsonl:11: 'completion' must be text" in output
    assert output.endswith("problems in the way: 1 (on_bad_row: fail)\n")


def test_rows_that_may_be_left_out_are_in_nobodys_way(data):
    assert data("check", "--on-bad-row", "skip", more=[{"prompt": "a"}]) == 0


def test_a_format_and_settings_may_be_given(data, capsys):
    assert data("check", "--format", "alpaca", "--set", "max_length=64") == 1
    output = capsys.readouterr().out
    assert "format alpaca (as configured)" in output


def test_the_report_as_json_lists_every_problem(data, capsys):
    assert data("check", "--json", more=[{"prompt": str(n)} for n in range(30)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["usable"] is False
    assert report["problems"] == {"null content": 30}
    listed = [problem for problem in report["listed"] if problem["severity"] == "refused"]
    assert len(listed) == 30
    assert listed[0]["line"] == 11


def test_a_configuration_names_data_and_base(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = ["data", "check", "--config", "training/configs/pocket.yaml"]
    arguments = build_parser().parse_args(words)

    assert arguments.run(arguments) == 0
    output = capsys.readouterr().out
    assert "verbosity_pairs.jsonl: 1,600 rows" in output
    assert "verbosity_heldout.jsonl: 200 rows" in output


def test_a_preview_shows_as_many_examples_as_asked_for(data, capsys):
    assert data("preview", "-n", "2") == 0
    output = capsys.readouterr().out
    assert output.count("line ") == 2
    assert "\x1b" not in output  # no terminal here


def test_a_preview_of_nothing_says_so(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    write_lines(path, {"prompt": ""})
    arguments = build_parser().parse_args(["data", "preview", str(path)])

    assert arguments.run(arguments) == 1
    assert "data check" in capsys.readouterr().err


def test_without_a_file_or_a_configuration_there_is_nothing_to_look_at():
    arguments = build_parser().parse_args(["data", "check"])

    with pytest.raises(ValueError, match="name a file or hub id"):
        arguments.run(arguments)


def test_a_base_that_is_not_here_is_answered_with_the_way_out(data):
    with pytest.raises(ValueError, match="--base FOLDER"):
        data("check", "--base", "owner/large")


def test_settings_that_do_not_exist_are_refused(data):
    with pytest.raises(ConfigError, match="did you mean max_length"):
        data("check", "--set", "max_lenght=64")
