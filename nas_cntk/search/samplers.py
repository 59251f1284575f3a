"""The samplers by name: each proposal gets a new one, seeded by the study's seed and the ordinal."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_cntk.errors import UsageError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True, slots=True)
class SamplerKind:
    """A sampler, the settings it takes with their defaults, and whether it can rank by several scores."""

    name: str
    settings: Mapping[str, int | float | bool]
    several_scores: bool


SAMPLERS: dict[str, SamplerKind] = {
    kind.name: kind
    for kind in (
        SamplerKind(
            "tpe",
            {"n_startup_trials": 10, "n_ei_candidates": 24, "constant_liar": True},
            True,
        ),
        SamplerKind("random", {}, True),
        SamplerKind(
            "nsga2",
            {"population_size": 10, "crossover_prob": 0.9, "swapping_prob": 0.5},
            True,
        ),
        SamplerKind(
            "evolution",
            {"population": 10, "tournament": 3, "mutations": 1},
            False,
        ),
    )
}


def choose_sampler(name: str | None, settings: Mapping[str, object] | None, scores: int) -> dict[str, Any]:
    """Return the complete settings of a sampler: its name and every setting, defaults filled in.

    Without a name, one score is searched with tpe and several with nsga2.

    Raises:
        UsageError: on an unknown name or setting, a setting of the wrong type, or too many scores for the sampler.
    """
    name = name or ("tpe" if scores == 1 else "nsga2")
    kind = SAMPLERS.get(name)
    if kind is None:
        close = difflib.get_close_matches(name, SAMPLERS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"unknown sampler {name!r}; known: {', '.join(SAMPLERS)}{hint}")
    if scores > 1 and not kind.several_scores:
        raise UsageError(f"sampler {name} ranks by one score, and {scores} were asked for; use nsga2, tpe or random")
    chosen: dict[str, Any] = {"name": name, **kind.settings}
    for setting, value in (settings or {}).items():
        if setting not in kind.settings:
            known = ", ".join(kind.settings) or "none"
            raise UsageError(f"sampler {name} has no setting {setting!r}; it takes {known}")
        chosen[setting] = _checked(name, setting, value, kind.settings[setting])
    return chosen


def parse_settings(texts: list[str]) -> dict[str, object]:
    """Return the settings in a list of NAME=VALUE.

    Raises:
        UsageError: on a text without an equals sign.
    """
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--sampler-setting {text!r} must be NAME=VALUE, for example population_size=20")
        found[name.strip()] = value.strip()
    return found


def make_sampler(chosen: Mapping[str, Any], seed: int, ordinal: int) -> BaseSampler:
    """Return the sampler of one proposal.

    Seeded by the ordinal and not by what earlier proposals drew, it proposes the same when asked again after a kill.
    """
    settings = {name: value for name, value in chosen.items() if name != "name"}
    own_seed = derived_seed(seed, ordinal)
    name = chosen["name"]
    if name == "evolution":
        from nas_cntk.search.evolution import EvolutionSampler

        return EvolutionSampler(seed=own_seed, **settings)

    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    if name == "random":
        return samplers.RandomSampler(seed=own_seed)
    if name == "nsga2":
        from nas_cntk.search.nsga2 import OrderedNSGAIISampler

        return OrderedNSGAIISampler(seed=own_seed, **settings)
    assert name == "tpe", name
    with warnings.catch_warnings():
        # `group` is experimental in Optuna's words; without it parameters that only some trials have are not modelled.
        warnings.filterwarnings("ignore", message=".*group.*", category=ExperimentalWarning)
        return samplers.TPESampler(seed=own_seed, multivariate=True, group=True, **settings)


def random_sampler(seed: int, ordinal: int) -> BaseSampler:
    """Return the sampler that replaces a study's own one where that keeps repeating itself."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=derived_seed(seed, ordinal, 1))


def fixed_sampler(parameters: Mapping[str, Any], base: BaseSampler) -> BaseSampler:
    """Return a sampler that proposes these parameters, and asks `base` for those that are not among them."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import PartialFixedSampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PartialFixedSampler(dict(parameters), base)


def derived_seed(*numbers: int) -> int:
    """Return a seed below 2^32 that depends on every one of `numbers`."""
    return int(np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1)[0])


def _checked(sampler: str, setting: str, value: object, default: int | float | bool) -> int | float | bool:
    text = str(value).strip().lower()
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text]
        if isinstance(default, int):
            number: int | float = int(text)
            lowest: int | float = 2 if setting.startswith("population") else 1
            highest: int | float = 10**6
        else:
            number, lowest, highest = float(text), 0.0, 1.0
    except (KeyError, ValueError):
        wanted = type(default).__name__
        raise UsageError(f"{setting} of sampler {sampler} must be {wanted}, got {value!r}") from None
    if not lowest <= number <= highest:
        raise UsageError(f"{setting} of sampler {sampler} must lie in {lowest} to {highest}, got {value}")
    return number
