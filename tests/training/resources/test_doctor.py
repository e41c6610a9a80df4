import argparse
import json
import subprocess
import sys

import pytest

from tests.training.conftest import ROOT
from tests.training.shapes import settings, write_base
from training.commands import doctor as command
from training.resources.checkup.finding import Finding, readable_bytes
from training.resources.doctor import examine

ROWS = [{"prompt": f"Number {n}?", "completion": "A number.", "style": "terse"} for n in range(40)]


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base")


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def config(base, rows, tmp_path):
    return settings(
        base_model=str(base),
        train_data=str(rows),
        device="cpu",
        output=tmp_path / "adapter",
        runs=tmp_path / "runs",
    )


def by_subject(findings):
    return {finding.subject: finding for finding in findings}


def problems_of(findings):
    return [finding for finding in findings if finding.level == "problem"]


# What is examined


@pytest.mark.slow
def test_a_run_that_can_work_has_no_problems(config):
    findings = examine(config)

    assert not problems_of(findings)
    assert list(by_subject(findings)) == [
        "python", "packages", "device", "base model", "disk", "data", "plan", "memory", "time",
    ]  # fmt: skip
    assert " examples to learn (" in by_subject(findings)["data"].text


@pytest.mark.slow
def test_all_that_is_wrong_is_found_at_once(config, base, rows):
    import dataclasses

    (base / "tokenizer.json").unlink()
    config = dataclasses.replace(config, device="mps")

    subjects = {finding.subject for finding in problems_of(examine(config))}

    assert {"device", "base model", "data"} <= subjects


@pytest.mark.slow
def test_rows_that_cannot_be_learned_are_a_problem_with_their_lines(config, rows):
    rows.write_text(rows.read_text() + '{"prompt": "", "completion": "x"}\n')

    found = by_subject(examine(config))

    assert found["data"].level == "problem"
    assert "rows.jsonl:41" in found["data"].text
    assert "on_bad_row=skip" in found["data"].fix
    assert "plan" not in found


@pytest.mark.slow
def test_rows_that_are_left_out_are_a_warning(config, rows):
    import dataclasses

    rows.write_text(rows.read_text() + '{"prompt": "", "completion": "x"}\n')

    findings = examine(dataclasses.replace(config, on_bad_row="skip"))

    assert [f.level for f in findings if f.subject == "data"] == ["ok", "warning"]
    assert not problems_of(findings)


@pytest.mark.slow
def test_a_base_that_is_not_here_is_a_problem_and_no_traceback(config, monkeypatch):
    import dataclasses

    from training.resources.checkup import base_model

    def offline(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(base_model.find_base, "__defaults__", (offline,))

    found = by_subject(examine(dataclasses.replace(config, base_model="owner/model")))

    assert found["base model"].level == "problem"
    assert "no route" in found["base model"].text
    assert found["plan"].level == "warning"


@pytest.mark.slow
def test_a_check_that_breaks_down_becomes_a_finding(config, monkeypatch):
    from training.resources.checkup import device

    def broken(config):
        raise RuntimeError("the driver is of another kernel")

    monkeypatch.setattr(device, "read_device", broken)

    [problem] = problems_of(examine(config))

    assert problem.subject == "device"
    assert problem.text == "RuntimeError: the driver is of another kernel"


@pytest.mark.slow
def test_a_trial_trains_one_step(config):
    finding = by_subject(examine(config, trial=True))["trial"]

    assert finding.level == "ok", finding.text
    assert "a first step took" in finding.text


# The command


def parse(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["--config", str(ROOT / "training/configs/pocket.yaml"), *words])


@pytest.fixture
def healthy(monkeypatch):
    return answering(monkeypatch, Finding("ok", "python", "3.11.7"))


def answering(monkeypatch, *findings):
    """A doctor that finds just these, and writes down what was asked."""
    asked = []

    def fake(config, *, trial=False):
        asked.append((config.name, trial))
        return list(findings)

    monkeypatch.setattr("training.resources.doctor.examine", fake)
    return asked


@pytest.mark.usefixtures("in_root")
def test_findings_are_printed_and_fine_is_0(healthy, capsys):
    assert command.run(parse()) == 0
    assert healthy == [("pocket", False)]
    assert capsys.readouterr().out == (
        "OK       python      3.11.7\n\nfine: 1, warnings: 0, problems: 0\n"
    )


@pytest.mark.usefixtures("in_root")
def test_a_problem_is_1_and_a_warning_is_not(monkeypatch, capsys):
    answering(monkeypatch, Finding("warning", "time", "days", "a GPU"))
    assert command.run(parse()) == 0

    answering(monkeypatch, Finding("problem", "disk", "full", "make room"))
    assert command.run(parse()) == 1
    assert (
        "PROBLEM  disk        full\n                     -> make room\n" in capsys.readouterr().out
    )


@pytest.mark.usefixtures("in_root")
def test_json_holds_every_finding(monkeypatch, capsys):
    answering(monkeypatch, Finding("problem", "disk", "full", "make room"))

    command.run(parse("--json", "--trial"))

    assert json.loads(capsys.readouterr().out) == {
        "healthy": False,
        "findings": [{"level": "problem", "subject": "disk", "text": "full", "fix": "make room"}],
    }


@pytest.mark.usefixtures("in_root")
def test_a_trial_is_made_on_request(healthy):
    command.run(parse("--trial"))

    assert healthy == [("pocket", True)]


def test_long_findings_are_wrapped_under_their_subject():
    text = command.to_text([Finding("ok", "memory", "word " * 40)])

    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.splitlines()[1].startswith(" " * 21 + "word")


@pytest.mark.slow
def test_the_command_works_from_the_outside():
    arguments = ["doctor", "--config", "training/configs/pocket.yaml", "--json"]

    done = subprocess.run(
        [sys.executable, "-m", "training", *arguments], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["healthy"]


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 MB"), (2_400_000, "2 MB"), (1e8, "0.1 GB"), (1.25e10, "12.5 GB")]
)
def test_sizes_are_told_in_units_of_ten(num_bytes, text):
    assert readable_bytes(num_bytes) == text
