"""The README of an exported folder: what is in it, and the commands to use it."""

from __future__ import annotations

_START = """\
# {name} {version} for {program}

`model/` is the base `{base}` with the adapter merged in; `model/README.md` says how far it is from
the adapter. Styles: {styles}; without a choice, `{default_style}`.

**Not verified here:** the commands below; no {program} was at hand when this folder was written.
Verified: transformers loads `model/`, which answers as `model/README.md` tells, and
{verified}.
"""

_VLLM = """
## Serve
```sh
vllm serve ./model --served-model-name {slug} --chat-template ./model/chat_template.jinja \\
  --chat-template-content-format string
```

## Ask
`presets.json` holds, for each style, what to send beside the messages. In the default style:

```sh
curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d {body}
```

- `chat_template_kwargs` chooses the style; the template puts its token in front of the last user
  message.
- `logit_bias` keeps the model from writing a style token.
- Without a preset, vLLM samples as `model/generation_config.json` says: like the default style, at
  any length.
"""

_OLLAMA = """
## Create
```sh
{create}
```

With `--quantize q4_K_M`, Ollama makes 4-bit weights of its own kind; answers then differ somewhat.

## Ask
```sh
ollama run {slug}-{default_slug} {question}
```

A Modelfile holds the template and the preset of one style. Ollama has no least number of tokens, so
these styles may answer shorter than their preset says: {with_minimum}. It writes the
beginning-of-text token itself, so the templates do not.{note}
"""

_GGUF = """
## Convert
With llama.cpp and its Python requirements:

```sh
python llama.cpp/convert_hf_to_gguf.py ./model --outfile {slug}.gguf --outtype {outtype}
llama-quantize {slug}.gguf {slug}-Q4_K_M.gguf Q4_K_M
```

The second line, if you want it, makes 4-bit weights of llama.cpp's kind; answers then differ
somewhat. The converter stops at a tokenizer that it does not know.

## Serve and ask
```sh
llama-server -m {slug}.gguf --jinja --port 8080
curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' -d {body}
```

`presets.json` holds, for each style, what to send beside the messages; `chat_template_kwargs`
chooses the style. llama.cpp has no least number of tokens, so these styles may answer shorter than
their preset says: {with_minimum}.
"""

_PAGES = {"vllm": ("vLLM", _VLLM), "ollama": ("Ollama", _OLLAMA), "gguf": ("llama.cpp", _GGUF)}


def page(target: str, values: dict[str, str]) -> str:
    """The README for a target; `values` fill its gaps."""
    program, text = _PAGES[target]
    return (_START + text).format(program=program, **values)
