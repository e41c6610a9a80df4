"""What a merge tells about its result: on the screen, as JSON and as the folder's README."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from adapters.manifest import AdapterManifest
from training.shipping.logit_difference import LogitDifference
from training.shipping.styled_template import TemplateCheck

_PAGE = """\
# {adapter} {version}, merged

The base model `{base}` with the adapter `{adapter}` merged into its weights: a complete model of
{dtype} weights in transformers' layout. {source}
The licence of the base model applies.

## Styles
{styles}

`chat_template.jinja` puts the style token in front of the last user message. `style` chooses:

```python
tokenizer.apply_chat_template(messages, style="{default_style}", add_generation_prompt=True)
```

`generation_config.json` samples as the default style does, and keeps `generate` of transformers
from writing a control token. Other programs may not know `suppress_tokens`; there, forbid the style
tokens by their ids.
{notes}
## How far it is from the adapter
{measured}

`merge.json` holds these figures. A message to this model can contain control tokens, which the
server of the adapter prevents.
"""
_SOURCES = {
    "bf16": "The adapter was trained beside 4-bit weights; here it stands on the published ones.",
    "nf4": "The weights are those the adapter was trained beside: 4-bit values, written out.",
}
_TIED = """
The output layer shares the embedding's rows, so the style tokens' trained rows are there too. They
were trained for prompts only: what the model thinks of writing them means nothing.
"""
_GROWN = """
The vocabulary was enlarged from {before} to {after} rows for the style tokens. All other new rows,
of embedding and output layer, are about the mean of the old ones.
"""


@dataclass(frozen=True)
class MergeReport:
    """What was merged, and how the result differs from what it was made of."""

    adapter: str
    adapter_version: str
    base: str
    base_fingerprint: str
    source: str
    """`bf16`: the base as published; `nf4`: the values of its 4-bit weights."""
    dtype: str
    vocab_size: int
    """Rows of the embedding."""
    tied_embeddings: bool
    difference: LogitDifference
    """From base and adapter as the server runs them by default: a 4-bit base with LoRA beside."""
    template: TemplateCheck

    def describe(self) -> str:
        """A few lines for people."""
        num_equal = self.template.num_prompts - len(self.template.unequal)
        lines = [
            f"Against the adapter as it is served, in 4-bit: {self.difference.describe()}.",
            f"The chat template writes {num_equal} of {self.template.num_prompts} prompts with the "
            "very token ids of the training" + (":" if self.template.unequal else "."),
            *(f"not those of {prompt}" for prompt in self.template.unequal),
        ]
        return "\n".join(lines)

    def save(self, folder: Path, manifest: AdapterManifest) -> None:
        """Write `merge.json` and `README.md`."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        (folder / "merge.json").write_text(text + "\n", encoding="utf-8")
        (folder / "README.md").write_text(self._page(manifest), encoding="utf-8")

    def _page(self, manifest: AdapterManifest) -> str:
        before = manifest.base.vocab_size
        grown = _GROWN.format(before=before, after=self.vocab_size)
        styles = [
            f"- `{style.name}`, token `{style.token}` (id {manifest.token_ids[style.name]}): "
            f"{style.description}"
            for style in manifest.styles
        ]
        return _PAGE.format(
            adapter=self.adapter,
            version=self.adapter_version,
            base=self.base,
            dtype=self.dtype,
            source=_SOURCES[self.source],
            styles="\n".join(styles),
            default_style=manifest.default_style,
            notes=(grown if self.vocab_size > before else "")
            + (_TIED if self.tied_embeddings else ""),
            measured=self.describe().replace("\n", "\n\n"),
        )
