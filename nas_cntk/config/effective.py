"""The options in effect: where each came from, as TOML that --config takes again, and as a study keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from nas_cntk.config.setting import settings_of
from nas_cntk.report.text import clean

# What an option that is not given comes to, where its default says nothing.
_IF_NOT_GIVEN = {
    "search": {
        "image-size": "the images' own size",
        "score": "the space's own; holdout_accuracy if it has none",
        "trials": "30 at first; of a study that goes on, as stored",
        "sampler": "tpe, nsga2 for several scores",
        "sampler-setting": "the sampler's own",
        "prune-level": "0: nothing is dropped",
        "siblings": "true",
        "batch": "1",
        "start-from": "nowhere: every proposal is the sampler's",
        "start-trials": "its 5 best",
        "study": "a new one, DATA-SPACE-N",
        "backend": "auto",
        "devices": "the first GPU, where kernels use one",
        "timeout": "no limit",
        "max-trial-seconds": "300",
    },
    "resume": {"study": "the newest", "timeout": "no limit", "devices": "the first GPU, where kernels use one"},
    "validate": {
        "top": "5, unless trials are named or spread is set",
        "train-images": "all of them",
        "epochs": "the recipe's",
        "width": "the recipe's",
        "only": "cnn and kernel",
        "study": "the newest",
        "spread": "no spread",
    },
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An option in effect; `value` None: not given."""

    key: str
    value: object
    origin: str  # default, flag, the name of a file, or what is to be said of it


def entries_of(ctx: typer.Context) -> list[Entry]:
    """Return every option of the command that is being run, in the order of its help."""
    assert ctx.info_name is not None
    notes = _IF_NOT_GIVEN.get(ctx.info_name, {})
    found = []
    for key, setting in settings_of(ctx.command).items():
        value = ctx.params[setting.name]
        origin = _origin(ctx, setting.name)
        if value is None or value in ([], ()):
            found.append(Entry(key, None, notes.get(key, "as stored with the study")))
        else:
            found.append(Entry(key, value, origin))
    return found


def as_asked(ctx: typer.Context) -> dict[str, object]:
    """Return what a study keeps of how it was asked for, as JSON: the file, and what came from it and from flags."""
    path = ctx.params.get("config")
    given = [entry for entry in entries_of(ctx) if entry.value is not None and entry.origin != "default"]
    return {
        "config": None if path is None else str(Path(path).expanduser().absolute()),
        "file": {entry.key: entry.value for entry in given if entry.origin != "flag"},
        "flags": {entry.key: entry.value for entry in given if entry.origin == "flag"},
    }


def print_options(ctx: typer.Context) -> None:
    """Print the options in effect as TOML."""
    command = ctx.info_name
    lines = [f"# nas-cntk {command} --config FILE takes this; paths are as seen from the current folder"]
    lines += [] if command == "search" else [f"[{command}]"]
    print("\n".join([*lines, *toml_lines(entries_of(ctx))]))


def toml_lines(entries: Iterable[Entry]) -> list[str]:
    """Return a line of TOML for each option, with its origin; one that is not given is a comment."""
    return [
        f"# {entry.key} (not given): {entry.origin}"
        if entry.value is None
        else f"{entry.key} = {toml(entry.value)}  # {_comment(entry.origin)}"
        for entry in entries
    ]


def toml(value: object) -> str:
    """Return a value as TOML: a string, a number, true or false, a list or an inline table of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml(str(key))} = {toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    assert isinstance(value, str), value
    return "".join(map(_escaped, json.dumps(value, ensure_ascii=False)))  # JSON's strings are TOML's


def _escaped(letter: str) -> str:
    """A letter, or the escape of one that does something on a terminal; half a surrogate pair has none in TOML."""
    if letter.isprintable() or "\ud800" <= letter <= "\udfff":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 2**16 else f"\\U{ord(letter):08x}"


def _origin(ctx: typer.Context, name: str) -> str:
    source: Any = ctx.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        return "flag"
    if source is not None and source.name == "DEFAULT_MAP":
        return Path(ctx.params["config"]).name
    return "default"


def _comment(text: str) -> str:
    return clean(" ".join(text.split()))
