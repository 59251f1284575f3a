"""Files of options, as `search`, `resume` and `validate` take them."""

from __future__ import annotations

import contextlib
import io
import tomllib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzz.harness import Reader
from fuzz.mutations import spoiled_bytes
from nas_cntk.config.file import COMMANDS
from nas_cntk.errors import ConfigError, UsageError

VALUES = (
    *(
        "0",
        "1",
        "-1",
        "3",
        "0.5",
        "1e-3",
        "inf",
        "-inf",
        "nan",
        "true",
        "false",
        "1e400",
        "0x" + "f" * 5000,
        "9" * 5000,
    ),
    *('"digits"', '"holdout_accuracy"', '"loo"', '"float64"', '"plain"', '"tpe"', '"cpu"', '"a.py"', '"~x/a"', '""'),
    *('"\\u001b[31m\\u0007"', '"<script>"', '"\'; DROP TABLE x"', '"a\\u0000b"', '"npz:a\\nb"', '"sqlite:///:memory:"'),
    *("[]", "[1]", '["a", "b"]', '["a=1"]', "{}", '{ a = 1, "b c" = 2.5 }', "{ a = { b = 1 } }", "[[[[]]]]"),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "1_000", "9223372036854775808", "10000000000000000000000"),
    *("'''a\nb'''", "[" * 200 + "]" * 200, '"' + "x" * 3000 + '"', "1" + "0" * 400, "{a" + ".a" * 300 + " = 1}"),
)
TABLES = ("", "[search]", "[validate]", "[resume]", "[serach]", "[[search]]", "[search.more]", '["search"]', "[a.b.c]")


def make() -> Reader:
    """The reader of files of options."""
    return Reader("config", run, (ConfigError, UsageError))


def run(rng: Random, folder: Path) -> None:
    """Read one file for one command, as the command line does, and print it as TOML again."""
    path = folder / "nas.toml"
    path.write_bytes(_content(rng))
    name = rng.choice(("search", "search", "validate", "resume"))
    ctx = _parsed(name, str(path))
    if ctx is None:
        return
    from nas_cntk.config.effective import as_asked, entries_of, toml_lines

    as_asked(ctx)
    printed = "\n".join(toml_lines(entries_of(ctx)))
    with contextlib.suppress(RecursionError):
        tomllib.loads(printed)


@cache
def _group() -> Any:
    import typer.main

    from nas_cntk.cli import app

    return typer.main.get_command(app)


@cache
def _settings() -> dict[str, list[str]]:
    from nas_cntk.config.setting import settings_of

    return {name: list(settings_of(_group().commands[name])) for name in COMMANDS}


def _parsed(name: str, path: str) -> Any:
    """What the command line makes of the file; None where it says itself what is wrong, with exit code 2."""
    group = _group()
    parent = group.make_context("nas-cntk", [name, "--config", path], resilient_parsing=False)
    usage_error = next(kind for kind in _usage_errors())
    with parent, contextlib.redirect_stderr(io.StringIO()):
        try:
            return group.commands[name].make_context(name, ["--config", path], parent=parent)
        except usage_error:
            return None


@cache
def _usage_errors() -> tuple[type[BaseException], ...]:
    import typer

    return tuple(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


def _content(rng: Random) -> bytes:
    known = _settings()
    lines: list[str] = []
    for table in ["", *rng.sample(TABLES, rng.choice((0, 0, 1, 2)))]:
        lines.append(table)
        keys = known.get(table.strip('[]"'), known["search"])
        for key in rng.sample(keys, rng.choice((0, 1, 2, 3))):
            value = _fitting(rng, key) if rng.random() < 0.85 else rng.choice(VALUES)
            lines.append(f"{_spelling(rng, key)} = {value}")
    if rng.random() < 0.02:
        lines.append(rng.choice(known["search"]) + ".a" * rng.choice((50, 1500, 8000)) + " = 1")
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        content = b"\xef\xbb\xbf" + content
    return spoiled_bytes(rng, content) if rng.random() < 0.25 else content


def _spelling(rng: Random, key: str) -> str:
    if rng.random() < 0.9:
        return key
    return rng.choice((key.replace("-", "_"), key.upper(), f'"{key}"', key[:-1], '"\\u001b[0m"', "x" * 200, key + ".a"))


def _fitting(rng: Random, key: str) -> str:
    """A value that the option may take."""
    words = {"data": '"digits"', "space": '"plain"', "score": '"holdout_accuracy"', "ridge": "1e-3", "db": '"a.db"'}
    words |= {"dtype": '"float64"', "sampler": '"random"', "backend": '"cpu"', "study": '"a study"'}
    if key in words:
        return words[key]
    return rng.choice(("1", "2", "10", "0.5", "true", "false", '"a"', '["a=1"]'))
