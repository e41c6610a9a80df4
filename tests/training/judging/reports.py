"""Reports made by hand: answers of chosen lengths, and all that is counted from them."""

import dataclasses

from adapters.base import BaseFacts
from adapters.manifest import AdapterManifest
from adapters.styles import STYLES
from serving.types import Output
from training.judging.loss import Loss
from training.judging.persona import PERSONA_PROMPTS, PersonaAnswers
from training.judging.style_report import StyleReport, compare
from training.judging.windows import are_trained, windows_of

SHORT, LONG = [10, 20, 30, 40], [100, 200, 300, 400]


def make_manifest(styles=STYLES, **training) -> AdapterManifest:
    return AdapterManifest(
        name="pocket",
        version="2",
        created="2026-01-01T00:00:00+00:00",
        base=BaseFacts("base", "MistralForCausalLM", 384, "0" * 64),
        styles=styles,
        token_ids={style.name: number for number, style in enumerate(styles)},
        default_style=styles[0].name,
        prompt_format_version=1,
        template_sha256="0" * 64,
        training=training,
    )


def outputs(lengths, *, text="words", reason="stop") -> list[Output]:
    """Answers of these lengths in which nothing repeats."""
    return [Output(list(range(length)), text, reason) for length in lengths]


def make_report(short=SHORT, long=LONG, *, control=(SHORT, SHORT), training=None) -> StyleReport:
    """A report on two styles; `control` are the lengths with plain instructions."""
    manifest = make_manifest(**(training or {}))
    windows = windows_of(manifest)
    held = list(windows.values())
    styled = compare({"terse": outputs(short), "verbose": outputs(long)}, held)
    alike = compare({"terse": outputs(short), "verbose": outputs(short)}, held)
    told = {"Answer briefly. …": outputs(control[0]), "Answer in detail. …": outputs(control[1])}
    return StyleReport(
        manifest=manifest,
        prompts=tuple(f"What is number {n}?" for n in range(len(short))),
        windows=windows,
        windows_are_trained=are_trained(manifest),
        comparisons={
            "presets_off": styled,
            "presets_on": styled,
            "no_token": compare({"no token": outputs(short)}, [None]),
            "base_with_style_tokens": alike,
            "base_with_plain_instructions": compare(told, held),
            "base_with_presets": alike,
        },
        personas={
            name: PersonaAnswers((("I am small.",) * 3,) * len(PERSONA_PROMPTS)) for name in windows
        },
        losses={"terse": Loss(0.5, 4, 100), "verbose": Loss(1.0, 4, 300)},
        device="cpu",
        num_answers=44,
        seconds=12.3,
    )


def with_answers(report: StyleReport, **answers) -> StyleReport:
    """The same with other answers with the presets off."""
    comparison = compare(answers, list(report.windows.values()))
    comparisons = {**report.comparisons, "presets_off": comparison}
    return dataclasses.replace(report, comparisons=comparisons)
