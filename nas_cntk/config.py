"""Configuration files: what the options of `search`, `resume` and `validate` say, as TOML; options win.

A key outside of a table holds for every one of these commands that has the option; the tables `[search]`, `[resume]`
and `[validate]` hold for one, and win. Paths are relative to the file. Read through the command line's own defaults,
so that a value from a file is checked as one from an option is.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from nas_cntk.errors import ConfigError

COMMANDS = ("search", "resume", "validate")
LARGEST = 1 << 20  # bytes of a file that is read
_OWN = ("config", "show_config", "help")  # options that no file holds
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def read(ctx: typer.Context, path: str | None) -> str | None:
    """Make a file's values the defaults of the command's options; the callback of `--config`.

    Raises:
        ConfigError: if the file cannot be read, is no TOML, or holds an unknown key or a value of a wrong type.
    """
    if path is None:
        return None
    known = _options_of_all(ctx)
    command = str(ctx.info_name)
    document = _document(path)
    for name in document:
        if name not in COMMANDS and isinstance(document[name], dict) and _key(name) != "sampler_setting":
            raise ConfigError(f"{path} has a table [{name}]; known tables: {_listed(COMMANDS)}{_hint(name, COMMANDS)}")
    values: dict[str, Any] = {}
    for table, entries in (("", document), *((name, document.get(name, {})) for name in COMMANDS)):
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {table} must be a table, [{table}]")
        for name, value in entries.items():
            if not table and name in COMMANDS:
                continue
            found = [one for one in ([table] if table else COMMANDS) if _key(name) in known[one]]
            if not found:
                options = sorted(
                    {key.replace("_", "-") for one in ([table] if table else COMMANDS) for key in known[one]}
                )
                where = f"table [{table}] of {path}" if table else path
                raise ConfigError(f"{where}: unknown key {name[:60]!r}{_hint(name, options)}; keys are options' names")
            option = known[found[0]][_key(name)]
            checked = _checked(path, name, value, option)
            if command in found:
                values[option.name] = _located(_key(name), checked, Path(path).parent)
    ctx.default_map = {**(ctx.default_map or {}), **values}
    return path


def shown(ctx: typer.Context) -> str:
    """Return what the command would run with as TOML that `--config` reads, and where each value comes from."""
    sources = {"COMMANDLINE": "option", "DEFAULT_MAP": f"from {ctx.params.get('config')}", "ENVIRONMENT": "environment"}
    lines = [f"[{ctx.info_name}]"]
    for key, option in _options(ctx.command).items():
        source = ctx.get_parameter_source(option.name)
        said = sources.get(source.name if source is not None else "", "default")
        value = ctx.params.get(option.name)
        if value is None or value == [] or value == ():
            lines.append(f"# {key.replace('_', '-')}: not set. {option.help}")
        else:
            lines.append(f"{key.replace('_', '-')} = {_toml(value)}  # {said}")
    return "\n".join(lines) + "\n"


def _options(command: Any) -> dict[str, Any]:
    """Return the options that a file may hold, by the name that they have there: the option's, not the parameter's."""
    options = [one for one in command.params if one.param_type_name == "option" and one.name not in _OWN]
    return {_key(option.opts[0].removeprefix("--")): option for option in options}


def _options_of_all(ctx: typer.Context) -> dict[str, dict[str, Any]]:
    assert ctx.parent is not None
    group: Any = ctx.parent.command
    return {name: _options(group.get_command(ctx, name)) for name in COMMANDS}


def _document(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"configuration {path} cannot be read: {reason}") from None
    if len(content) > LARGEST:
        raise ConfigError(f"configuration {path} is too large; at most {LARGEST} bytes are read")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"configuration {path} is no TOML: {error}") from None


def _checked(path: str, name: str, value: Any, option: Any) -> Any:
    kind = option.type_descriptor.annotation
    if _key(name) == "sampler_setting" and isinstance(value, dict):
        value = [f"{setting}={_text(one)}" for setting, one in value.items()]
    if option.multiple:
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        raise ConfigError(f"{path}: {name} must be a list of texts, got {_short(value)}")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is str and _key(name) == "score" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return ",".join(value)
    if kind is str and number:
        return _text(value)  # a ridge
    if not (number and (kind is float or isinstance(value, int)) if kind in (int, float) else isinstance(value, kind)):
        raise ConfigError(f"{path}: {name} must be {_KINDS[kind]}, got {_short(value)}")
    return value


def _located(key: str, value: Any, folder: Path) -> Any:
    """Return a path as it is found from the working folder; it stands in the file as seen from the file."""
    if not isinstance(value, str):
        return value
    if key == "data" and ":" in value:
        kind, _, path = value.partition(":")
        return f"{kind}:{_joined(folder, path)}"
    if key == "space" and (value.endswith(".py") or "/" in value):
        return _joined(folder, value)
    if key == "db" and "://" not in value:
        return _joined(folder, value)
    return value


def _joined(folder: Path, path: str) -> str:
    return path if not path or path.startswith("~") else str(folder / path)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's


def _key(name: str) -> str:
    return name.replace("-", "_")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"[{name}]" for name in names)


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.replace("_", "-"), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
