"""Looks at everything that a training run needs, and says what to do about what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from training.config import TrainConfig
from training.resources.checkup.finding import Finding
from training.resources.checkup.installation import check_packages, check_python

Result = TypeVar("Result")


def examine(config: TrainConfig, *, trial: bool = False) -> list[Finding]:
    """Findings on machine, base model, data and plan, all of them; a trial trains one step.

    Whatever goes wrong becomes a finding, for a doctor that falls ill helps nobody.
    """
    findings = [check_python(), *check_packages()]
    _attempt(findings, "training", lambda: _examine_run(config, findings, trial=trial))
    return findings


def _examine_run(config: TrainConfig, findings: list[Finding], *, trial: bool) -> None:
    # imported here, since a package that is missing is a finding too
    from training.resources.checkup import base_model, data, device, forecast, room

    facts = _attempt(findings, "device", lambda: device.read_device(config))
    if facts is not None:
        has_nvidia = device.has_nvidia_driver()
        findings += device.check_device(facts, config, has_nvidia=has_nvidia)
    found = _attempt(findings, "base model", lambda: base_model.find_base(config))
    if found is None:
        return
    folder, told = found
    findings += told
    if folder is None:
        text = "without the base's files, room, data, memory and time cannot be told"
        findings.append(Finding("warning", "plan", text))
        return
    base = folder
    shape = _attempt_pair(findings, "base model", lambda: base_model.check_base(base, config))
    if shape is not None:
        findings += room.check_room(config, shape)
    examples = _attempt_pair(findings, "data", lambda: data.check_data(config, base))
    if shape is None or examples is None or facts is None:
        return
    from training.resources.plan import row_lengths

    lengths = row_lengths(examples.train, config.method)
    plan, told = forecast.check_forecast(shape, config, lengths, facts)
    findings += told
    if trial and plan is not None:
        from training.resources.checkup.trial import try_step
        from training.train import train

        rows = examples.train_rows
        done = _attempt(findings, "trial", lambda: try_step(config, rows, lengths, plan, train))
        findings += [] if done is None else [done]


def _attempt(findings: list[Finding], subject: str, check: Callable[[], Result]) -> Result | None:
    """What a check returns; None and a finding if it fails."""
    try:
        return check()
    except Exception as error:  # of libraries, drivers and files, whichever they may be
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        findings.append(Finding("problem", subject, f"{kind}{error}"))
        return None


def _attempt_pair(
    findings: list[Finding],
    subject: str,
    check: Callable[[], tuple[Result | None, list[Finding]]],
) -> Result | None:
    """What a check returns first, its findings added; None if it fails."""
    done = _attempt(findings, subject, check)
    if done is None:
        return None
    result, told = done
    findings += told
    return result
