import dataclasses
import json
import re
import shlex

import pytest
import torch

from adapters.manifest import check_adapter
from adapters.prompts import Message, PromptFormat
from adapters.styles import TERSE, VERBOSE, Preset
from tests.training.conftest import make_tiny_adapter, make_tiny_base
from training.shipping.export import export, llama_cpp_preset, modelfile, vllm_preset
from training.shipping.merge import MergeRequest
from training.shipping.ollama_template import Turns

pytestmark = pytest.mark.slow

GREEDY = dataclasses.replace(TERSE, preset=Preset(0.7, 0.9, 0, 9, do_sample=False))
TURNS = Turns("[INST] ", " [/INST]", "", "</s>[INST] ", None)


@pytest.fixture(scope="module")
def exported(tiny_adapter, tmp_path_factory):
    """A folder for each target."""
    folder = tmp_path_factory.mktemp("exported")
    for target in ("vllm", "ollama", "gguf"):
        export(MergeRequest(tiny_adapter, folder / target, dtype="bfloat16"), target)
    return folder


def commands(folder):
    """The commands in the README, as lists of words."""
    page = (folder / "README.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def test_each_folder_holds_what_its_program_needs(exported):
    names = {folder.name: {path.name for path in folder.iterdir()} for folder in exported.iterdir()}

    assert names == {
        "vllm": {"README.md", "model", "presets.json"},
        "ollama": {"README.md", "model", "Modelfile.terse", "Modelfile.verbose"},
        "gguf": {"README.md", "model", "presets.json"},
    }
    for target in names:
        files = {path.name for path in (exported / target / "model").iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
        assert not [name for name in files if "adapter" in name or name == "manifest.json"]


def test_each_readme_says_what_was_not_verified(exported):
    for target, program in (("vllm", "vLLM"), ("ollama", "Ollama"), ("gguf", "llama.cpp")):
        page = (exported / target / "README.md").read_text()
        assert f"# tiny 1 for {program}" in page
        assert f"**Not verified here:** the commands below; no {program} was at hand" in page
        assert "{" not in page.split("```")[0]


def test_vllm_gets_a_template_with_the_ids_of_the_training(exported, tiny_adapter):
    from transformers import AutoTokenizer

    prompt = PromptFormat.from_folder(tiny_adapter)
    tokenizer = AutoTokenizer.from_pretrained(exported / "vllm" / "model")
    messages = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Who?")]
    turns = [dataclasses.asdict(message) for message in messages]
    for style in (TERSE, VERBOSE):
        found = tokenizer.apply_chat_template(
            turns, style=style.name, add_generation_prompt=True, return_dict=False
        )
        assert found == prompt.encode_prompt(messages, style.token)
    assert "for 10 of 10 prompts" in (exported / "vllm" / "README.md").read_text()


def test_the_request_in_the_readme_is_the_default_styles_preset(exported):
    for target in ("vllm", "gguf"):
        curl = commands(exported / target)[-1]
        body = json.loads(curl[curl.index("-d") + 1])
        presets = json.loads((exported / target / "presets.json").read_text())
        assert set(presets) == {"terse", "verbose"}
        assert body["messages"] == [{"role": "user", "content": "What is rate limiting?"}]
        assert body["model"] == "tiny"
        assert {**body, **presets["terse"]} == body


def test_the_vllm_command_names_the_folder_and_its_template(exported):
    serve = commands(exported / "vllm")[0]

    assert serve[:3] == ["vllm", "serve", "./model"]
    template = serve[serve.index("--chat-template") + 1]
    assert (exported / "vllm" / template).is_file()


def test_ollamas_commands_name_the_modelfiles(exported):
    create = [words for words in commands(exported / "ollama") if words[1] == "create"]

    assert [words[2] for words in create] == ["tiny-terse", "tiny-verbose"]
    assert all((exported / "ollama" / words[-1]).is_file() for words in create)
    assert commands(exported / "ollama")[-1][:3] == ["ollama", "run", "tiny-terse"]
    page = (exported / "ollama" / "README.md").read_text()
    assert "no place for system messages" in page
    assert "preset says: verbose." in page


def test_a_modelfile_puts_the_style_token_into_the_prompt_and_leaves_bos_to_ollama(exported):
    text = (exported / "ollama" / "Modelfile.verbose").read_text()

    assert text.startswith('FROM ./model\nTEMPLATE """{{ range $i, $_ := .Messages }}')
    assert "<STYLE_VERBOSE>\n{{ end }}{{ .Content }} [/INST]" in text
    assert "<STYLE_TERSE>" not in text
    assert "<s>" not in text


def test_llama_cpp_gets_a_template_without_marks_and_the_right_type(exported):
    model = exported / "gguf" / "model"
    template = (model / "chat_template.jinja").read_text()

    assert not [letter for letter in template if "\ue000" <= letter <= "\uf8ff"]
    assert commands(exported / "gguf")[0][-2:] == ["--outtype", "bf16"]
    assert json.loads((model / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("style", [TERSE, VERBOSE, GREEDY])
def test_presets_speak_each_programs_words(style, tiny_adapter):
    manifest, preset = check_adapter(tiny_adapter), style.preset
    temperature = 0.0 if style is GREEDY else preset.temperature

    assert vllm_preset(style, manifest) == {
        "temperature": temperature,
        "top_p": preset.top_p,
        "min_tokens": preset.min_new_tokens,
        "max_tokens": preset.max_new_tokens,
        "chat_template_kwargs": {"style": style.name},
        "logit_bias": {"10": -100, "11": -100},
    }
    assert llama_cpp_preset(style, manifest) == {
        "temperature": temperature,
        "top_p": preset.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "max_tokens": preset.max_new_tokens,
        "chat_template_kwargs": {"style": style.name},
        "logit_bias": [[10, False], [11, False]],
    }


def test_a_modelfile_turns_every_other_filter_off(tiny_adapter):
    prompt = PromptFormat.from_folder(tiny_adapter)
    lines = modelfile(GREEDY, prompt, TURNS).splitlines()

    assert [line for line in lines if line.startswith("PARAMETER")] == [
        "PARAMETER temperature 0.0",
        "PARAMETER top_p 0.9",
        f"PARAMETER top_k {prompt.num_tokens}",
        "PARAMETER min_p 0.0",
        "PARAMETER repeat_penalty 1.0",
        "PARAMETER num_predict 9",
        'PARAMETER stop "</s>"',
    ]


def test_a_template_that_ollama_cannot_have_is_refused_before_the_work(tmp_path):
    base = make_tiny_base(tmp_path / "base")
    (base / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ loop.index }}. {{ message['content'] }}\n{% endfor %}"
    )
    adapter = make_tiny_adapter(base, tmp_path / "adapter")

    with pytest.raises(ValueError, match="no template for Ollama"):
        export(MergeRequest(adapter, tmp_path / "out" / "ollama"), "ollama")

    assert not (tmp_path / "out").exists()


def test_an_export_that_fails_leaves_nothing_behind(tiny_adapter, tmp_path):
    missing = str(tmp_path / "nowhere" / "at" / "all")

    with pytest.raises(FileNotFoundError, match="nowhere"):
        export(MergeRequest(tiny_adapter, tmp_path / "out" / "vllm", base_model=missing), "vllm")

    assert list((tmp_path / "out").iterdir()) == []


def test_the_exported_model_loads(exported):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(exported / "gguf" / "model")

    assert model.dtype == torch.bfloat16
    assert model.get_input_embeddings().weight.shape == (384, 64)
