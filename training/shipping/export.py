"""Folders that other programs can serve: vLLM, Ollama, llama.cpp."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from transformers import AutoTokenizer

from adapters.manifest import AdapterManifest, check_adapter
from adapters.prompts import PromptFormat
from adapters.styles import Style
from training.shipping.export_pages import page
from training.shipping.merge import MergeRequest, complete_folder, write_merged
from training.shipping.merge_report import MergeReport
from training.shipping.ollama_template import Turns, find_turns, ollama_template

Target = Literal["vllm", "ollama", "gguf"]
_QUESTION = "What is rate limiting?"
_GGUF_TYPES = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}


def export(request: MergeRequest, target: Target) -> MergeReport:
    """Write a folder for `target`; it appears when it is complete.

    Raises:
        ValueError: as in `shipping.merge.merge`, or Ollama cannot have the base's chat template.
    """
    manifest = check_adapter(request.adapter)
    prompt = PromptFormat.from_folder(request.adapter)
    turns = _turns(request.adapter) if target == "ollama" else None
    with complete_folder(request.output) as folder:
        (folder / "model").mkdir()
        report = write_merged(folder / "model", request, marked_template=target == "vllm")
        values = _values(manifest, report)
        if turns is not None:
            values |= _write_modelfiles(folder, manifest, prompt, turns)
        else:
            make = vllm_preset if target == "vllm" else llama_cpp_preset
            presets = {style.name: make(style, manifest) for style in manifest.styles}
            values |= _write_presets(folder, manifest, presets)
        (folder / "README.md").write_text(page(target, values), encoding="utf-8")
    return report


def vllm_preset(style: Style, manifest: AdapterManifest) -> dict[str, Any]:
    """What to send to vLLM beside the messages, for answers in a style."""
    return {
        "temperature": 0.0 if style.preset.greedy else style.preset.temperature,
        "top_p": style.preset.top_p,
        "min_tokens": style.preset.min_new_tokens,
        "max_tokens": style.preset.max_new_tokens,
        "chat_template_kwargs": {"style": style.name},
        "logit_bias": {str(token_id): -100 for token_id in manifest.token_ids.values()},
    }


def llama_cpp_preset(style: Style, manifest: AdapterManifest) -> dict[str, Any]:
    """The same for llama.cpp's server, which filters by top_k and min_p unless told not to."""
    return {
        "temperature": 0.0 if style.preset.greedy else style.preset.temperature,
        "top_p": style.preset.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "max_tokens": style.preset.max_new_tokens,
        "chat_template_kwargs": {"style": style.name},
        "logit_bias": [[token_id, False] for token_id in manifest.token_ids.values()],
    }


def modelfile(style: Style, prompt: PromptFormat, turns: Turns) -> str:
    """Ollama's description of a model that answers in a style."""
    parameters = {
        "temperature": 0.0 if style.preset.greedy else style.preset.temperature,
        "top_p": style.preset.top_p,
        "top_k": prompt.num_tokens,  # all of them; 40 without this line
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "num_predict": style.preset.max_new_tokens,
        "stop": json.dumps(prompt.eos_token),
    }
    lines = [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    template = ollama_template(turns, style.token)
    return "\n".join(["FROM ./model", f'TEMPLATE """{template}"""', *lines]) + "\n"


def _turns(adapter: Path) -> Turns:
    """What stands around messages, without the BOS in front: Ollama writes that itself."""
    tokenizer = AutoTokenizer.from_pretrained(adapter, trust_remote_code=False)

    def render(messages: list[dict[str, str]]) -> str:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text.removeprefix(tokenizer.bos_token or "")

    return find_turns(render)


def _values(manifest: AdapterManifest, report: MergeReport) -> dict[str, str]:
    """What the README of any target tells."""
    num_equal = report.template.num_prompts - len(report.template.unequal)
    unbound = [style.name for style in manifest.styles if style.preset.min_new_tokens > 0]
    return {
        "name": manifest.name,
        "slug": _slug(manifest.name),
        "version": manifest.version,
        "base": manifest.base.name,
        "styles": ", ".join(f"`{style.name}`" for style in manifest.styles),
        "default_style": manifest.default_style,
        "outtype": _GGUF_TYPES[report.dtype],
        "with_minimum": ", ".join(unbound) or "none",
        "verified": (
            f"its chat template, read by transformers, gives the token ids of the training for "
            f"{num_equal} of {report.template.num_prompts} prompts"
        ),
    }


def _write_presets(
    folder: Path, manifest: AdapterManifest, presets: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """`presets.json`, and a request in the default style for the README."""
    text = json.dumps(presets, indent=2, ensure_ascii=False)
    (folder / "presets.json").write_text(text + "\n", encoding="utf-8")
    messages = [{"role": "user", "content": _QUESTION}]
    body = {"model": _slug(manifest.name), "messages": messages, **presets[manifest.default_style]}
    return {"body": shlex.quote(json.dumps(body, ensure_ascii=False))}


def _write_modelfiles(
    folder: Path, manifest: AdapterManifest, prompt: PromptFormat, turns: Turns
) -> dict[str, str]:
    """One Modelfile for each style, and the commands for the README."""
    commands = []
    for style in manifest.styles:
        name = f"Modelfile.{_slug(style.name)}"
        (folder / name).write_text(modelfile(style, prompt, turns), encoding="utf-8")
        model = f"{_slug(manifest.name)}-{_slug(style.name)}"
        commands.append(f"ollama create {model} -f {name}")
    note = "" if turns.system else " The base has no place for system messages: they are left out."
    return {
        "create": "\n".join(commands),
        "question": shlex.quote(_QUESTION),
        "default_slug": _slug(manifest.default_style),
        "note": note,
        "verified": (
            "the Modelfiles' template writes conversations of up to five turns as the base's chat "
            "template does"
        ),
    }


def _slug(name: str) -> str:
    """A name that shells, file systems and model registries accept."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower())
