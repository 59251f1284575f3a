"""How a study is searched again: the commands, and what they depend on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas_cntk.report import text
from nas_cntk.report.board import Board
from nas_cntk.search.samplers import SAMPLERS


@dataclass(frozen=True, slots=True)
class Recipe:
    """Commands in order, facts as (name, value), and what was changed on the way."""

    commands: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    changes: tuple[str, ...]


def recipe(board: Board, db: str, best: int | None, network: bool) -> Recipe:
    """Return how to reproduce a study and take its best trial home: its `network` if there is one; `db` as given."""
    name, file = board.study.name, named(db)
    commands = [_search(board)]
    validated = list(dict.fromkeys(one.number for one in board.validated))
    if validated:
        options = [str(number) for number in validated]
        cnn = next((one for one in board.validated if one.kind == "cnn"), None)
        if cnn is None:
            options += ["--only", "kernel"]
        else:
            options += ["--recipe", str(cnn.recipe)]
            for option in ("epochs", "width"):
                value = cnn.setting(option)
                options += [f"--{option}", str(value)] if isinstance(value, int) else []
            options += [f"--{option}" for option in ("flips", "crops") if cnn.setting(option) is True]
        commands.append(text.command("validate", *options, db=file, study=name))
    if best is not None:
        commands.append(text.command("show", str(best), db=file, study=name))
        model = () if network else ("--kernel",)
        commands.append(text.command("export", str(best), *model, "--to", "model", db=file, study=name))
    return Recipe(tuple(commands), tuple(_facts(board)), tuple(_change(change) for change in board.changes))


def named(place: str) -> str:
    """Return the name of a file or KIND:FILE without its folders, which are nobody else's business."""
    kind, colon, path = place.partition(":")
    if place == text.DEFAULT_DB:
        return place
    if colon:
        return f"{kind}:{Path(path).name}"
    return Path(place).name if "/" in place or "\\" in place else place


def _search(board: Board) -> str:
    study, config = board.study, board.study.config
    parts = ["nas-cntk", "search", "--data", named(str(config.get("data", "")))]
    if config.get("image_size") is not None:
        parts += ["--image-size", str(config["image_size"])]
    parts += ["--skip-bad"] if config.get("skip_bad") else []
    parts += ["--space", named(str(config.get("space", "")))]
    parts += ["--subset", str(study.identity.get("subset")), "--holdout", str(study.identity.get("holdout"))]
    parts += ["--score", ",".join(board.directions), "--seed", str(study.identity.get("seed"))]
    if study.identity.get("ridge") != 0:
        parts += ["--ridge", str(study.identity.get("ridge"))]
    if study.identity.get("dtype") != "float32":
        parts += ["--dtype", str(study.identity.get("dtype"))]
    parts += _sampler(study.sampler)
    for option, default in (("max_trial_seconds", 300.0), ("prune_level", 0.0)):
        value = config.get(option, default)
        parts += [f"--{option.replace('_', '-')}", f"{value:g}"] if value != default else []
    parts += ["--trials", str(study.target), "--study", study.name]
    return shlex.join(parts)


def _sampler(chosen: Mapping[str, object]) -> list[str]:
    name = str(chosen.get("name", ""))
    parts = ["--sampler", name] if name else []
    usual = SAMPLERS[name].settings if name in SAMPLERS else {}
    for setting, value in chosen.items():
        if setting != "name" and usual.get(setting) != value:
            parts += ["--sampler-setting", f"{setting}={value}"]
    return parts


def _facts(board: Board) -> list[tuple[str, str]]:
    study = board.study
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    return [
        ("made", study.created),
        ("with", versions),
        ("data, fingerprint", str(study.identity.get("data"))),
        ("space, hash of its source", str(study.identity.get("space_source"))),
        ("seed", str(study.identity.get("seed"))),
        (
            "kernels",
            f"{study.identity.get('dtype')}, ridge {study.identity.get('ridge')}, backend {study.rate_backend}",
        ),
    ]


def _change(change: Mapping[str, object]) -> str:
    setting = str(change["setting"]).replace("_", " ")
    before, after = change["before"], change["after"]
    if setting == "data":
        before, after = named(str(before)), named(str(after))
    return f"after {change['finished']} trials: {setting} was {_plain(before)}, became {_plain(after)}"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{value[name]}" if name == "name" else f"{name}={value[name]}" for name in sorted(value))
    return str(value)
