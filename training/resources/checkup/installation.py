"""Python and the packages that requirements.txt pins."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from training.resources.checkup.finding import Finding

OLDEST_PYTHON = (3, 11)
REQUIREMENTS = Path(__file__).parents[3] / "requirements.txt"
_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[\w.]+)", re.MULTILINE)
_INSTALL = "install what is pinned: pip install -r requirements.txt"

VersionOf = Callable[[str], str]
"""The installed version of a package; raises PackageNotFoundError."""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Whether this Python is new enough."""
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding("problem", "python", text, f"install Python {oldest} or newer")
    return Finding("ok", "python", text)


def check_packages(
    requirements: Path = REQUIREMENTS, version_of: VersionOf = importlib.metadata.version
) -> list[Finding]:
    """Packages that are missing, or of another version than the tested one."""
    if not requirements.is_file():
        text = f"{requirements.name} is not here, so the versions were compared with nothing"
        return [Finding("warning", "packages", text)]
    pins = _PIN.findall(requirements.read_text(encoding="utf-8"))
    findings = list(_misfits(pins, version_of))
    return findings or [Finding("ok", "packages", f"{len(pins)} as pinned")]


def _misfits(pins: list[tuple[str, str]], version_of: VersionOf) -> Iterator[Finding]:
    for name, pinned in pins:
        try:
            found = version_of(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("problem", "packages", f"{name} is not installed", _INSTALL)
            continue
        # torch tells its build behind a plus sign: 2.13.0+cpu
        if found.partition("+")[0] != pinned:
            text = f"{name} is {found}; {pinned} is what was tested"
            yield Finding("warning", "packages", text, _INSTALL)
