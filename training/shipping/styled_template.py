"""Chat templates that put the style token in themselves, for programs that know no styles.

Our own server builds prompts as ids (`adapters.prompts`), words and scaffold apart. Others write
them as one text and encode that, and a space in front of a word then becomes part of its token. So
the template writes a mark around the words, at which the tokenizer cuts and which it drops.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.manifest import AdapterManifest
from adapters.prompts import Message, PromptError, PromptFormat

_MARK = "\ue002"

# Values are written as JSON. Only what llama.cpp's Jinja has too: no dict(), no filters. Nothing is
# assigned to `style`: vLLM passes on only those variables that a template does not set.
_PRELUDE = """\
{#- The style token stands in front of the last user message, as in training. -#}
{#- Callers choose with the variable `style`; without it, the default style. -#}
{%- set style_tokens = @STYLE_TOKENS@ -%}
{%- set chosen = style if style is defined and style else @DEFAULT_STYLE@ -%}
{%- if chosen not in style_tokens -%}
{{- raise_exception(@UNKNOWN_STYLE@ + chosen) -}}
{%- endif -%}
{%- set rewritten = namespace(last_user=-1, messages=[]) -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{%- set rewritten.last_user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
{%- if message['content'] is string -%}
{%- set lead = style_tokens[chosen] + '\\n' if loop.index0 == rewritten.last_user else '' -%}
{%- set content = lead + @MARK@ + message['content'] + @MARK@ -%}
{%- set rewritten.messages = rewritten.messages + [
    {'role': message['role'], 'content': content}] -%}
{%- else -%}
{%- set rewritten.messages = rewritten.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = rewritten.messages %}"""

_CONVERSATIONS = (
    (Message("user", "What is rate limiting?"),),
    (Message("user", "Why is the sky blue? Ünïcode, 数字 and 🙂 too."),),
    (Message("user", "\n  What does this do?\ndef f(x):\n    return 2 * x  # twice\n"),),
    (
        Message("user", "What is a cache?"),
        Message("assistant", "Memory close to where it is needed."),
        Message("user", "Why is it small?"),
    ),
    (
        Message("user", "Hello."),
        Message("assistant", "Hello! What would you like to know?"),
        Message("user", "What is DNS?"),
        Message("assistant", "It turns names into addresses."),
        Message("user", "And who keeps it?"),
    ),
    (Message("system", "You are kind."), Message("user", "What is a queue?")),
)


@dataclass(frozen=True)
class TemplateCheck:
    """How prompts written by a styled template compare with those of the training."""

    num_prompts: int
    unequal: tuple[str, ...]
    """Prompts whose token ids differ, in words."""


def write_styled_tokenizer(
    folder: Path, manifest: AdapterManifest, prompt: PromptFormat, *, marked: bool
) -> TemplateCheck:
    """Put styles into the chat template of a folder that holds the adapter's tokenizer files.

    `prompt` is the adapter's. With `marked`, transformers and what builds on it make exactly its
    ids; without, the template is text that any other tokenizer can read.
    """
    _read_tokenizer_as_it_is(folder / "tokenizer_config.json")
    if marked:
        _cut_at_marks(folder / "tokenizer.json")
    template = styled_chat_template(prompt.chat_template, manifest, _MARK if marked else "")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return _check(folder, manifest, prompt)


def styled_chat_template(chat_template: str, manifest: AdapterManifest, mark: str = "") -> str:
    """The chat template with the style token in front of the last user message.

    The variable `style` chooses; without it, the default style. `mark` stands before and after the
    words of every message.
    """
    tokens = {style.name: style.token for style in manifest.styles}
    values = {
        "@STYLE_TOKENS@": tokens,
        "@DEFAULT_STYLE@": manifest.default_style,
        "@UNKNOWN_STYLE@": f"style must be one of {', '.join(tokens)}, not ",
        "@MARK@": mark,
    }
    prelude = _PRELUDE
    for name, value in values.items():
        prelude = prelude.replace(name, json.dumps(value, ensure_ascii=False))
    return prelude + chat_template


def _check(folder: Path, manifest: AdapterManifest, prompt: PromptFormat) -> TemplateCheck:
    """Compare what transformers makes of a folder's template with `prompt`, in every style."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    num_prompts, unequal = 0, []
    for messages in _CONVERSATIONS:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        for style in manifest.styles:
            try:
                wanted = prompt.encode_prompt(messages, style.token)
            except PromptError:  # a template without system messages
                continue
            found = tokenizer.apply_chat_template(
                turns, style=style.name, add_generation_prompt=True, return_dict=False
            )
            num_prompts += 1
            if found != wanted:
                unequal.append(f"{style.name}, {len(messages)} messages: {messages[-1].content!r}")
    return TemplateCheck(num_prompts, tuple(unequal))


def _read_tokenizer_as_it_is(path: Path) -> None:
    """Name the class that takes tokenizer.json at its word; every transformers has it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _cut_at_marks(path: Path) -> None:
    """Let a tokenizer encode what stands between marks as if it stood alone, without the marks."""
    data = json.loads(path.read_text(encoding="utf-8"))
    cut = {"type": "Split", "pattern": {"String": _MARK}, "behavior": "Removed", "invert": False}
    steps = _steps(data["pre_tokenizer"], "pretokenizers")
    normalizers = _steps(data["normalizer"], "normalizers")
    if any(step["type"] == "Prepend" for step in normalizers):  # Llama 2: a space before any text
        normalizers += [
            _replace(f"{_MARK}(?=[^{_MARK}])", f"{_MARK}▁"),
            _replace(f"^▁{_MARK}", _MARK),
        ]
    elif any(step.get("prepend_scheme") == "first" for step in steps):  # Mistral: if it has none
        normalizers.append(_replace(f"{_MARK}(?=[^{_MARK} ▁])", f"{_MARK}▁"))
    if normalizers:
        data["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [cut, *steps]}
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def _steps(part: dict[str, Any] | None, members: str) -> list[dict[str, Any]]:
    """What a normalizer or a pre-tokenizer of tokenizer.json does, one after the other."""
    if part is None:
        return []
    return list(part[members]) if part["type"] == "Sequence" else [part]


def _replace(pattern: str, text: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": text}
