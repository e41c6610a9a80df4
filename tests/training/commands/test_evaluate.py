import json
import shutil

import pytest

from training.__main__ import build_parser


def evaluate(*words) -> int:
    arguments = build_parser().parse_args(["evaluate", *map(str, words)])
    code: int = arguments.run(arguments)
    return code


def test_a_folder_that_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder; train one first"):
        evaluate(tmp_path / "nothing")


@pytest.mark.parametrize("number", [0, -3])
def test_at_least_one_prompt_is_asked(tmp_path, number):
    with pytest.raises(ValueError, match=f"--prompts must be at least 1, not {number}"):
        evaluate(tmp_path, "--prompts", number)


def test_settings_of_the_engine_are_checked_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="did you mean quantization"):
        evaluate(tmp_path / "nothing", "--set", "quantisation=none")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"What is number {n}?", "completion": text, "style": style}
        for n in range(3)
        for style, text in (("terse", "A number."), ("verbose", "A number, at length."))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_an_adapter_without_held_out_rows_needs_a_file(tiny_adapter):
    with pytest.raises(ValueError, match="name a file: --data"):
        evaluate(tiny_adapter)


@pytest.mark.slow
def test_a_report_is_written_and_its_verdict_printed(tiny_adapter, data, tmp_path, capsys):
    adapter, output = tmp_path / "tiny", tmp_path / "report"
    shutil.copytree(tiny_adapter, adapter)
    before = {file.name: file.read_bytes() for file in adapter.iterdir()}

    code = evaluate(
        adapter,
        *("--data", data, "--prompts", 2, "--output", output),
        *("--set", "device=cpu", "--set", "quantization=none"),
    )

    told = capsys.readouterr().out
    written = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert code == 0
    assert told.startswith(written["verdict"])
    assert told.endswith(f"report written to {output / 'report.md'}\n")
    assert written["num_prompts"] == 2
    assert written["heldout"]["num_rows"] == 6
    assert {file.name: file.read_bytes() for file in adapter.iterdir()} == before


@pytest.mark.slow
def test_the_report_goes_to_the_run_of_the_adapters_name(tiny_adapter, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    evaluate(tiny_adapter, "--data", data, "--prompts", 1, "--set", "device=cpu")

    assert (tmp_path / "runs" / "tiny" / "report" / "report.md").is_file()
