"""Merged folders, asked through the server's engine and through transformers alone."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.manifest import AdapterMismatchError, check_adapter
from adapters.prompts import Message, PromptFormat
from serving.base_model import load_base
from serving.config import PROJECT_FOLDER, EngineConfig
from serving.core import EngineCore
from serving.loader import lay_out, load
from serving.sampling import SamplingParams
from serving.scheduler import Job
from tests.training.conftest import make_tiny_adapter, make_tiny_base
from training.shipping.merge import MergeRequest, merge

pytestmark = pytest.mark.slow

POCKET = PROJECT_FOLDER / "models" / "pocket"
QUESTIONS = ("What is rate limiting?", "Why do tides come twice a day?")


@pytest.fixture(scope="module")
def merged(tiny_adapter, tmp_path_factory):
    """The exact merge, as a folder and its report."""
    folder = tmp_path_factory.mktemp("merged") / "tiny"
    return folder, merge(MergeRequest(tiny_adapter, folder, source="nf4", dtype="float32"))


def answers(loaded, config):
    """Greedy answers as ids, to every question in every style."""
    prompts = [
        loaded.prompt.encode_prompt([Message("user", question)], style.token)
        for style in loaded.manifest.styles
        for question in QUESTIONS
    ]
    params = SamplingParams(max_new_tokens=24)
    outputs = EngineCore(loaded, config).run([Job(prompt, params) for prompt in prompts])
    return [output.ids for output in outputs]


def assert_answers_alike(adapter, merged):
    """Base and adapter against the merged model, both as the server runs models."""
    config = EngineConfig(adapter=adapter, device="cpu", kv_cache_gb=0.01)
    loaded = load(config)
    want = answers(loaded, config)
    model = lay_out(load_base(merged, "cpu", "none", torch.float32).eval(), config)
    assert answers(dataclasses.replace(loaded, model=model), config) == want
    assert len({tuple(ids) for ids in want}) > 1


def test_it_answers_as_base_and_adapter_do(merged, tiny_adapter):
    folder, report = merged

    assert_answers_alike(tiny_adapter, folder)
    assert report.difference.max_abs < 1e-3
    assert report.difference.equal_argmax_share == 1


def test_an_adapter_of_the_bundled_base_answers_alike_when_merged(tmp_path):
    adapter = make_tiny_adapter(POCKET, tmp_path / "adapter")

    report = merge(MergeRequest(adapter, tmp_path / "pocket", source="nf4", dtype="float32"))

    assert_answers_alike(adapter, tmp_path / "pocket")
    # float32 itself is up to 2.4e-3 off float64 on this base, whose logits reach 21
    assert report.difference.relative < 3e-5
    assert report.template.unequal == ()


def test_transformers_alone_answers_alike(merged, tiny_adapter):
    folder, _ = merged
    config = EngineConfig(adapter=tiny_adapter, device="cpu", kv_cache_gb=0.01)
    want = answers(load(config), config)[-1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTIONS[-1]}],
        style="verbose",
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )

    model = AutoModelForCausalLM.from_pretrained(folder)
    output = model.generate(**ids, max_new_tokens=24, do_sample=False, temperature=None, top_p=None)

    found = output[0, ids["input_ids"].shape[1] :].tolist()
    assert [token_id for token_id in found if token_id != 2] == want


def test_the_folder_holds_a_model_and_nothing_of_the_adapter(merged):
    folder, _ = merged

    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merge.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not [name for name in load_file(folder / "model.safetensors") if "lora" in name]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_everybody_may_read_the_files(merged):
    folder, _ = merged

    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_it_samples_as_the_default_style_and_writes_no_control_token(merged, tiny_adapter):
    folder, _ = merged
    settings = json.loads((folder / "generation_config.json").read_text())
    prompt = PromptFormat.from_folder(tiny_adapter)

    assert (settings["do_sample"], settings["temperature"]) == (True, 0.1)
    assert (settings["top_p"], settings["top_k"]) == (0.95, 0)
    assert settings["eos_token_id"] == prompt.eos_id
    unused = set(range(prompt.num_tokens, 384))
    assert set(settings["suppress_tokens"]) == (prompt.control_ids | unused) - {prompt.eos_id}
    assert "max_new_tokens" not in settings  # vLLM would cut every style at it


def test_the_report_is_told_three_times(merged):
    folder, report = merged
    page = (folder / "README.md").read_text()

    assert json.loads((folder / "merge.json").read_text()) == json.loads(
        json.dumps(dataclasses.asdict(report))
    )
    assert report.difference.describe() in report.describe()
    assert report.difference.describe() in page
    assert "`verbose`, token `<STYLE_VERBOSE>` (id 11)" in page
    assert "10 of 10 prompts" in page


def test_by_default_the_published_base_takes_the_adapter(tiny_base, tiny_adapter, merged, tmp_path):
    report = merge(MergeRequest(tiny_adapter, tmp_path / "merged"))

    _, exact = merged
    assert (report.source, report.dtype) == ("bf16", "float32")
    assert report.difference.mean_abs > 100 * exact.difference.mean_abs
    assert "published" in (tmp_path / "merged" / "README.md").read_text()
    before, after = (
        load_file(folder / "model.safetensors")["lm_head.weight"]
        for folder in (tiny_base, tmp_path / "merged")
    )
    assert torch.equal(after, before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_precision_can_be_chosen(tiny_adapter, tmp_path, dtype):
    report = merge(MergeRequest(tiny_adapter, tmp_path / "merged", dtype=dtype))

    tensors = load_file(tmp_path / "merged" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {f"torch.{dtype}"}
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == dtype
    assert report.dtype == dtype


def test_a_tied_output_layer_stays_tied(tmp_path):
    base = make_tiny_base(tmp_path / "base", tie_word_embeddings=True)
    adapter = make_tiny_adapter(base, tmp_path / "adapter")
    report = merge(MergeRequest(adapter, tmp_path / "merged", source="nf4", dtype="float32"))

    assert "lm_head.weight" not in load_file(tmp_path / "merged" / "model.safetensors")
    assert report.tied_embeddings
    assert "shares the embedding's rows" in (tmp_path / "merged" / "README.md").read_text()
    assert_answers_alike(adapter, tmp_path / "merged")


def test_a_vocabulary_that_grew_is_written_whole_and_always_the_same(tmp_path):
    base = make_tiny_base(tmp_path / "base", vocab_size=333)  # as many as the tokenizer has
    for path in (base / "tokenizer.json", base / "tokenizer_config.json"):
        path.write_text(path.read_text().replace("[control_", "[taken_"))
    adapter = make_tiny_adapter(base, tmp_path / "adapter")
    reports = [
        merge(MergeRequest(adapter, tmp_path / name, source="nf4", dtype="float32"))
        for name in ("one", "two")
    ]

    rows = load_file(tmp_path / "one" / "model.safetensors")["model.embed_tokens.weight"]
    assert check_adapter(adapter).token_ids == {"terse": 333, "verbose": 334}
    assert reports[0].vocab_size == len(rows) == 384
    assert json.loads((tmp_path / "one" / "config.json").read_text())["vocab_size"] == 384
    assert "enlarged from 333 to 384 rows" in (tmp_path / "one" / "README.md").read_text()
    settings = json.loads((tmp_path / "one" / "generation_config.json").read_text())
    assert set(range(333, 384)) <= set(settings["suppress_tokens"])
    one, two = (tmp_path / name / "model.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert_answers_alike(adapter, tmp_path / "one")


def test_stretched_positions_stay_stretched(tiny_adapter, tmp_path):
    stretched = tmp_path / "stretched"
    shutil.copytree(tiny_adapter, stretched)
    dataclasses.replace(check_adapter(stretched), rope_factor=4.0).save(stretched)
    report = merge(MergeRequest(stretched, tmp_path / "merged", source="nf4", dtype="float32"))

    rope = json.loads((tmp_path / "merged" / "config.json").read_text())["rope_parameters"]
    assert (rope["rope_type"], rope["factor"]) == ("linear", 4.0)
    assert report.difference.max_abs < 1e-3
    assert_answers_alike(stretched, tmp_path / "merged")


def test_a_damaged_adapter_is_refused(tiny_adapter, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_adapter, copy)
    (copy / "tokenizer.json").write_text("{}")

    with pytest.raises(AdapterMismatchError, match=r"tokenizer.json has 2 bytes"):
        merge(MergeRequest(copy, tmp_path / "out" / "merged"))

    assert list((tmp_path / "out").iterdir()) == []


def test_another_base_is_refused(tiny_adapter, tmp_path):
    other = make_tiny_base(tmp_path / "other", rms_norm_eps=1e-5)

    with pytest.raises(AdapterMismatchError, match="another model"):
        merge(MergeRequest(tiny_adapter, tmp_path / "merged", base_model=str(other)))


def test_a_base_published_in_4_bit_is_refused(tiny_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    adapter = make_tiny_adapter(base, tmp_path / "adapter")
    (base / "config.json").write_text(json.dumps(config))
    renew_base(adapter, base)

    with pytest.raises(ValueError, match="published quantized"):
        merge(MergeRequest(adapter, tmp_path / "merged"))


def renew_base(adapter, base):
    """Let the adapter say that it was trained on what its base is now."""
    from adapters.base import read_base_facts

    manifest = check_adapter(adapter)
    dataclasses.replace(manifest, base=read_base_facts(base, str(base))).save(adapter)


def test_what_is_there_already_is_left_alone(tiny_adapter, tmp_path):
    (tmp_path / "merged").mkdir()

    with pytest.raises(ValueError, match=r"merged exists; remove it or name another"):
        merge(MergeRequest(tiny_adapter, tmp_path / "merged"))


def test_a_merge_that_fails_leaves_nothing_behind(tmp_path):
    base = make_tiny_base(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"][0] = 1e6
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    adapter = make_tiny_adapter(base, tmp_path / "adapter")

    with pytest.raises(ValueError, match=r"model.norm.weight .* float16 cannot hold"):
        merge(MergeRequest(adapter, tmp_path / "out" / "merged", dtype="float16"))

    assert list((tmp_path / "out").iterdir()) == []
