"""`merge` and `export` on the command line."""

import json
import subprocess
import sys

import pytest

from tests.training.conftest import ROOT
from training.__main__ import build_parser
from training.commands import merge


def parse(*words):
    return build_parser().parse_args([str(word) for word in words])


def command(*words) -> int:
    arguments = parse(*words)
    code: int = arguments.run(arguments)
    return code


def test_the_options_become_a_request(tmp_path):
    arguments = parse(
        *("merge", tmp_path, "--output", "out", "--base-model", "hub/name", "--from", "nf4"),
        *("--dtype", "float16", "--device", "cuda"),
    )
    request = merge.read_request(arguments)

    assert (request.adapter, str(request.output)) == (tmp_path, "out")
    assert (request.base_model, request.source) == ("hub/name", "nf4")
    assert (request.dtype, request.device) == ("float16", "cuda")


def test_without_options_the_published_base_is_merged_on_the_cpu():
    request = merge.read_request(parse("export", "a", "--to", "vllm", "--output", "b"))

    assert (request.base_model, request.source) == ("", "bf16")
    assert (request.dtype, request.device) == ("auto", "cpu")


@pytest.mark.parametrize(
    "words",
    [
        ["merge", "a"],
        ["merge", "a", "--output", "b", "--from", "int8"],
        ["export", "a", "--output", "b"],
        ["export", "a", "--output", "b", "--to", "tgi"],
    ],
)
def test_a_command_line_that_says_too_little_or_too_much_is_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*words)

    assert end.value.code == 2
    assert "usage: python -m training" in capsys.readouterr().err


def test_the_command_line_alone_loads_no_model_library():
    code = (
        "import sys; import training.commands.merge, training.commands.export\n"
        "print(sorted({'torch', 'transformers', 'peft', 'serving'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.slow
def test_merge_tells_how_far_the_result_is_from_the_adapter(tiny_adapter, tmp_path, capsys):
    output = tmp_path / "merged"

    assert command("merge", tiny_adapter, "--output", output, "--from", "nf4") == 0

    told = capsys.readouterr().out
    share = json.loads((output / "merge.json").read_text())["difference"]["equal_argmax_share"]
    assert f"the most likely token is the same at {share:.1%}" in told
    assert told.endswith(f"model written to {output}\n")


@pytest.mark.slow
def test_export_tells_where_to_go_on(tiny_adapter, tmp_path, capsys):
    output = tmp_path / "ollama"

    assert command("export", tiny_adapter, "--to", "ollama", "--output", output) == 0

    assert f"written to {output}; its README.md" in capsys.readouterr().out
    assert (output / "Modelfile.terse").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["merge"], ["export", "--to", "gguf"]])
def test_a_folder_that_is_no_adapter_is_refused(tmp_path, words):
    with pytest.raises(ValueError, match="there is no such folder; train one first"):
        command(*words, tmp_path / "nothing", "--output", tmp_path / "out")

    assert not (tmp_path / "out").exists()
