"""The manifest of an adapter folder: what it needs, what it holds, and whether that is true.

`AdapterManifest.save` is the trainer's last step; `check_adapter` is the server's first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.base import BaseFacts
from adapters.prompts import FORMAT_VERSION, PromptFormat
from adapters.styles import Style

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "adapter_model.safetensors"
REQUIRED_FILES = (WEIGHTS_NAME, "adapter_config.json", "tokenizer.json", "tokenizer_config.json")
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


class AdapterMismatchError(ValueError):
    """An adapter folder is damaged or does not fit; the message lists every problem."""

    def __init__(self, folder: Path, problems: list[str]) -> None:
        """Keep the problems as a list too, for callers that show them one by one."""
        self.problems = problems
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"adapter {folder} cannot be used:{lines}")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and sha256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class AdapterManifest:
    """Everything an adapter folder says about itself."""

    name: str
    version: str
    created: str
    """UTC time in ISO 8601."""
    base: BaseFacts
    styles: tuple[Style, ...]
    token_ids: dict[str, int]
    """Id of each style's token, by style name."""
    default_style: str
    prompt_format_version: int
    template_sha256: str
    rope_factor: float = 1.0
    """How far the base's positions are stretched; written down only if they are."""
    training: dict[str, Any] = field(default_factory=dict)
    """The resolved configuration, data digest, example counts, library versions."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Losses and the style report, measured after training."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """Every other file of the folder."""

    def style(self, name: str | None) -> Style:
        """The style of that name, or the default for None; raises KeyError if unknown."""
        wanted = self.default_style if name is None else name
        return {style.name: style for style in self.styles}[wanted]

    def with_presets(self, presets: Mapping[str, Mapping[str, Any]]) -> AdapterManifest:
        """A copy in which an operator's values replace those of the presets, by style name.

        Raises:
            ValueError: listing unknown styles, unknown values and values that do not fit.
        """
        problems, styles = [], {style.name: style for style in self.styles}
        for name, values in presets.items():
            try:
                style = styles[name]
                preset = dataclasses.replace(style.preset, **values)
                styles[name] = dataclasses.replace(style, preset=preset)
            except KeyError:
                problems.append(f"presets: unknown style {name!r}; known: {', '.join(styles)}")
            except (TypeError, ValueError) as error:
                problems.append(f"presets: {name}: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return dataclasses.replace(self, styles=tuple(styles.values()))

    def save(self, folder: Path) -> AdapterManifest:
        """Checksum the files of the folder and write `manifest.json`; returns what was written."""
        manifest = dataclasses.replace(self, files=dict(_describe_files(folder)))
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    def to_json(self) -> str:
        """The one text this manifest has on disk; its last key is a digest of the rest."""
        styles = {
            style.name: {
                "token": style.token,
                "token_id": self.token_ids[style.name],
                "description": style.description,
                "preset": dataclasses.asdict(style.preset),
            }
            for style in self.styles
        }
        data = {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "base": dataclasses.asdict(self.base),
            "styles": styles,
            "default_style": self.default_style,
            "prompt": {
                "format_version": self.prompt_format_version,
                "template_sha256": self.template_sha256,
            },
            **({} if self.rope_factor == 1.0 else {"rope_factor": self.rope_factor}),
            "training": self.training,
            "scores": self.scores,
            "files": {name: dataclasses.asdict(entry) for name, entry in self.files.items()},
        }
        return json.dumps({**data, "digest": _digest(data)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> AdapterManifest:
        """Read what `to_json` wrote.

        Raises:
            ValueError: malformed, of another schema, or changed since it was written.
        """
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']!r} is not {SCHEMA}, the one known here")
            manifest = cls._from_dict(data)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"malformed: {error!r}") from error
        if text != manifest.to_json():
            raise ValueError("changed since it was written")
        return manifest

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> AdapterManifest:
        styles, token_ids = [], {}
        for name, entry in data["styles"].items():
            token_ids[name] = entry["token_id"]
            rest = {key: value for key, value in entry.items() if key != "token_id"}
            styles.append(Style.from_dict({"name": name, **rest}))
        return cls(
            name=data["name"],
            version=data["version"],
            created=data["created"],
            base=BaseFacts(**data["base"]),
            styles=tuple(styles),
            token_ids=token_ids,
            default_style=data["default_style"],
            prompt_format_version=data["prompt"]["format_version"],
            template_sha256=data["prompt"]["template_sha256"],
            rope_factor=data.get("rope_factor", 1.0),
            training=data["training"],
            scores=data["scores"],
            files={name: FileEntry(**entry) for name, entry in data["files"].items()},
        )


def check_adapter(folder: Path, base: BaseFacts | None = None) -> AdapterManifest:
    """Read an adapter folder and make sure that every byte is as the trainer left it.

    With `base`, also that the adapter was trained on that very model.

    Raises:
        AdapterMismatchError: listing everything that is wrong.
    """
    problems = list(_folder_problems(folder))
    manifest = None
    if not problems:
        try:
            # bytes, because reading as text would hide a changed line end
            text = (folder / MANIFEST_NAME).read_bytes().decode("utf-8")
            manifest = AdapterManifest.from_json(text)
        except ValueError as error:
            problems.append(f"{MANIFEST_NAME}: {error}")
    if manifest is not None:
        problems += _file_problems(folder, manifest)
        problems += _style_problems(manifest)
        if not problems:
            problems += _prompt_problems(folder, manifest)
        if base is not None:
            problems += _base_problems(manifest.base, base)
    if manifest is None or problems:
        raise AdapterMismatchError(folder, problems)
    return manifest


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def _describe_files(folder: Path) -> Iterator[tuple[str, FileEntry]]:
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST_NAME:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            yield path.name, FileEntry(path.stat().st_size, sha256)


def _folder_problems(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        yield "there is no such folder; train one first (make train)"
        return
    if not (folder / MANIFEST_NAME).is_file():
        yield f"{MANIFEST_NAME} is missing; only folders written by this trainer can be served"
    for path in sorted(folder.iterdir()):
        if path.suffix in _PICKLE_SUFFIXES:
            yield f"{path.name} is a pickle, which can run code when loaded; remove it"
        elif not path.is_file():
            yield f"{path.name} is not a plain file"


def _file_problems(folder: Path, manifest: AdapterManifest) -> Iterator[str]:
    present = dict(_describe_files(folder))
    for name in sorted({*manifest.files, *REQUIRED_FILES} - set(present)):
        yield f"{name} is missing"
    for name in sorted(set(present) - set(manifest.files)):
        yield f"{name} is not in the manifest"
    for name in sorted(set(present) & set(manifest.files)):
        want, have = manifest.files[name], present[name]
        if have.size != want.size:
            yield f"{name} has {have.size} bytes, the manifest says {want.size}"
        elif have.sha256 != want.sha256:
            yield f"{name} was changed: its sha256 is not the manifest's"


def _style_problems(manifest: AdapterManifest) -> Iterator[str]:
    names = [style.name for style in manifest.styles]
    if manifest.default_style not in names:
        yield f"default style {manifest.default_style!r} is none of {', '.join(names)}"
    if len(set(manifest.token_ids.values())) < len(names):
        yield "two styles share one token id"


def _prompt_problems(folder: Path, manifest: AdapterManifest) -> Iterator[str]:
    if manifest.prompt_format_version != FORMAT_VERSION:
        yield (
            f"prompt format {manifest.prompt_format_version} is not {FORMAT_VERSION}, "
            "the one of this server; train the adapter anew"
        )
    try:
        prompt = PromptFormat.from_folder(folder)
        for style in manifest.styles:
            have, want = prompt.token_id(style.token), manifest.token_ids[style.name]
            if have != want:
                yield f"token {style.token} has id {have} in tokenizer.json, {want} in the manifest"
            elif have not in prompt.control_ids:
                yield f"token {style.token} is no control token in tokenizer.json"
    except (OSError, ValueError) as error:
        yield f"tokenizer: {error}"
        return
    if prompt.template_sha256 != manifest.template_sha256:
        yield "the chat template is not the one the adapter was trained with"


def _base_problems(want: BaseFacts, have: BaseFacts) -> Iterator[str]:
    if want.architecture != have.architecture:
        yield f"trained on a {want.architecture}, but the base model is a {have.architecture}"
    if want.vocab_size != have.vocab_size:
        yield f"trained on {want.vocab_size} tokens, but the base model has {have.vocab_size}"
    if want.fingerprint != have.fingerprint:
        yield (
            f"trained on {want.name!r}, but {have.name!r} is another model "
            f"(fingerprint {want.fingerprint[:12]} and {have.fingerprint[:12]})"
        )
