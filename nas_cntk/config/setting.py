"""What an option may hold: its key in a file, its type and its range, read off the command that declares it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

from nas_cntk.errors import UsageError

NOT_IN_FILES = ("config", "show-config")
LARGEST = 2**63  # beyond every number: TOML itself has none that are larger
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    list: "a table, or a list of strings NAME=VALUE",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """An option of a command as a file may set it."""

    key: str  # the flag's name without its dashes: image-size
    name: str  # of the parameter: image_size
    kind: type  # int, float, bool, str, or list: an option that may be repeated
    low: float | None
    high: float | None

    def value(self, found: object, where: str) -> object:
        """Return what the file holds, as the command line would have it.

        Raises:
            UsageError: if it is of another type, or out of range; `where` says which file.
        """
        parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else (found,)
        if any(isinstance(part, int) and abs(part) >= LARGEST for part in parts):
            raise UsageError(f"{where}: {self.key} must be below {LARGEST:.0e}, got {shown(found)}")
        if self.kind is list:
            return self._several(found, where)
        if self.key == "score" and isinstance(found, list):
            return ",".join(self._text(part, where) for part in found)
        if self.key == "ridge" and _is_number(found):
            return str(found)  # the flag takes a number or a word
        right = _is_number(found) if self.kind is float else isinstance(found, self.kind)
        if not right or (self.kind is int and isinstance(found, bool)):
            raise self._wrong(found, where)
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            self._check_range(found, where)
        return found

    def _several(self, found: object, where: str) -> list[str]:
        if isinstance(found, dict):
            bad = [value for value in found.values() if not isinstance(value, (str, int, float))]
            if bad:
                raise self._wrong(bad[0], where)
            return [f"{name}={str(value).lower()}" for name, value in found.items()]
        if not isinstance(found, list):
            raise self._wrong(found, where)
        return [self._text(part, where) for part in found]

    def _text(self, found: object, where: str) -> str:
        if not isinstance(found, str):
            raise self._wrong(found, where)
        return found

    def _check_range(self, found: float, where: str) -> None:
        # Written so that nan, which TOML has and which no comparison holds for, is out of every range.
        if (self.low is None or found >= self.low) and (self.high is None or found <= self.high):
            return
        limits = f"{self.low:g} or more" if self.high is None else f"{self.low:g} to {self.high:g}"
        raise UsageError(f"{where}: {self.key} must be {limits}, got {found}")

    def _wrong(self, found: object, where: str) -> UsageError:
        return UsageError(f"{where}: {self.key} must be {_WORDS[self.kind]}, got {shown(found)}")


def settings_of(command: Any) -> dict[str, Setting]:
    """Return the options of one of typer's commands that a file may set, by key, in their order."""
    flags = {parameter.name: parameter.opts[0] for parameter in command.params}
    found = {}
    for name, hint in get_type_hints(inspect.unwrap(command.callback), include_extras=True).items():
        info = next((part for part in getattr(hint, "__metadata__", ()) if isinstance(part, OptionInfo)), None)
        if info is None:
            continue  # an argument, or what is returned
        key = flags[name].removeprefix("--")
        if key not in NOT_IN_FILES:
            found[key] = Setting(key, name, _kind(hint), info.min, info.max)
    return found


def shown(value: object) -> str:
    """Return a value of a file for a message: short, on one line."""
    try:
        text = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value}"
    except (ValueError, RecursionError):
        return "a number of thousands of digits, or a table of thousands of levels"
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(hint: Any) -> type:
    """Return the type that an annotation such as Annotated[list[str] | None, ...] stands for."""
    plain = get_args(hint)[0]
    parts = [part for part in get_args(plain) if part is not type(None)] if get_origin(plain) is not list else []
    inner = parts[0] if parts else plain
    kind = get_origin(inner) or inner
    assert kind in _WORDS, kind
    return kind  # type: ignore[no-any-return]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
