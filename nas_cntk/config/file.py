"""A TOML file of options: read, checked as a whole, and given to the command line as its defaults."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from nas_cntk.config.setting import NOT_IN_FILES, Setting, settings_of, shown
from nas_cntk.errors import ConfigError, UsageError

COMMANDS = ("search", "resume", "validate")  # that take --config, and that a file may have a table for
DATABASE_URL = "sqlite:///"
LARGEST = 64 * 2**10  # bytes; all options written out take two thousand
MOST_DOTS = 1000  # on a line: reading a key of many parts takes time that grows with their square


def use_file(ctx: typer.Context, value: str | None) -> str | None:
    """Make the options in a file the defaults of the command of `ctx`; the callback of --config.

    Raises:
        ConfigError: if the file cannot be read, or is no TOML.
        UsageError: if it holds an unknown key or a value that its option does not take.
    """
    if value is None or ctx.resilient_parsing:
        return value
    commands = ctx.find_root().command.commands  # type: ignore[attr-defined]
    known = {name: settings_of(commands[name]) for name in COMMANDS}
    assert ctx.info_name is not None
    ctx.default_map = defaults(read_file(value), known, ctx.info_name, value)
    return value


def read_file(path: str) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        ConfigError: if it cannot be read, or is no TOML.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError, RuntimeError) as error:  # not there; NUL or other bytes; no such user's home
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise ConfigError(f"cannot read {path}: {reason}; give --config a TOML file") from None
    if len(content) > LARGEST or any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise ConfigError(f"{path} is too large, or has too many dots on a line, to be a file of options; mend it")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path} is no TOML: nested too deeply; mend the file") from None
    except ValueError as error:  # TOMLDecodeError, and numbers of absurd length or dates of no calendar
        raise ConfigError(f"{path} is no TOML: {' '.join(str(error).split())[:200]}; mend the file") from None


def defaults(
    document: Mapping[str, Any], known: Mapping[str, Mapping[str, Setting]], command: str, path: str
) -> dict[str, Any]:
    """Return what a document says of one command's options, by the names of the parameters.

    Keys at the top hold for every command that has the option; a command's own table wins. Everything is checked,
    the tables of other commands too. Relative paths become relative to the folder of `path`.

    Raises:
        UsageError: on an unknown key or a value of the wrong type.
    """
    own = {key: value for key, value in document.items() if key not in known}
    checked = _checked(own, known["search"], path, path, known)
    found = {key: value for key, value in checked.items() if key in known[command]}
    for name, settings in known.items():
        table = document.get(name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {name} must be a table, [{name}], got {shown(table)}")
        checked = _checked(table, settings, f"{path}, [{name}]", path, known)
        if name == command:
            found.update(checked)
    return {known[command][key].name: value for key, value in found.items()}


def _checked(
    table: Mapping[str, Any],
    settings: Mapping[str, Setting],
    where: str,
    path: str,
    known: Mapping[str, Mapping[str, Setting]],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for written, value in table.items():
        key = written.replace("_", "-")
        if key not in settings:
            raise UsageError(f"{where}: unknown key {shown(written)}; {_hint(key, settings, known)}")
        if key in found:
            raise UsageError(f"{where}: {key} is there twice, with a dash and with an underscore; leave one")
        found[key] = _from_folder(key, settings[key].value(value, where), Path(path).expanduser().parent)
    return found


def _hint(key: str, settings: Mapping[str, Setting], known: Mapping[str, Mapping[str, Setting]]) -> str:
    if key in NOT_IN_FILES:
        return f"--{key} is a flag only"
    close = difflib.get_close_matches(key, [*settings, *known], n=1)  # a table may be misspelt too
    owners = [name for name, others in known.items() if key in others]
    if owners:
        return f"{key} is an option of {owners[0]}: put it under [{owners[0]}]"
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(settings)}"


def _from_folder(key: str, value: object, folder: Path) -> object:
    """Return a value with its path, if it holds one, as seen from the current folder and not from the file's."""
    if not isinstance(value, str):
        return value
    if key == "data":
        kind, colon, place = value.partition(":")
        return f"{kind}:{_joined(folder, place)}" if place else value
    if key == "space":
        return _joined(folder, value) if value.endswith(".py") or "/" in value else value
    if key == "db" and value.startswith(DATABASE_URL) and not value.endswith(":memory:"):
        return DATABASE_URL + _joined(folder, value.removeprefix(DATABASE_URL))
    return _joined(folder, value) if key == "db" and value.strip() and "://" not in value else value


def _joined(folder: Path, place: str) -> str:
    return place if place.startswith("~") else str(folder / place)
