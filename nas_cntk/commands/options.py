"""The options that several commands take, with their ranges, their help, and what a shell completes."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from nas_cntk.commands import completion
from nas_cntk.config.file import use_file


def without_password(db: str) -> str:
    """Return a database's URL without its password, which goes where the driver looks for it and no screen shows it."""
    if "://" not in db or "@" not in db:
        return db
    from nas_cntk.records.database import take_password

    url, password = take_password(db)
    if password is not None:
        os.environ["PGPASSWORD"] = password
    return url


Db = Annotated[
    str,
    typer.Option(help="Database: a path, sqlite:///PATH, or postgresql://USER@HOST/NAME.", callback=without_password),
]
StudyName = Annotated[
    str | None, typer.Option("--study", autocompletion=completion.studies, help="Study; the newest if not given.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors and the last line, and nothing else.")]
JsonLines = Annotated[bool, typer.Option("--json-lines", help="Print a JSON object for each event, for programs.")]
Data = Annotated[
    str,
    typer.Option(
        autocompletion=completion.data_kinds, help="Data: digits, cifar10:PATH, npz:PATH, idx:DIR or folder:DIR."
    ),
]
SpaceName = Annotated[
    str,
    typer.Option(
        autocompletion=completion.spaces, help="Search space: plain, resnet, stages, nasbench201, or FILE.py."
    ),
]
ImageSize = Annotated[int | None, typer.Option(min=1, help="Average images down to N x N pixels.")]
Subset = Annotated[int, typer.Option(min=1, help="Images that kernels are fitted on.")]
Holdout = Annotated[int, typer.Option(min=1, help="Images that they are tested on.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the split and of the sampler.")]
ScoreNames = Annotated[
    str,
    typer.Option(
        "--score",
        autocompletion=completion.scores,
        help="Scores, comma-separated; the first ranks, two or more make a Pareto front.",
    ),
]
OwnScoreNames = Annotated[
    str | None,
    typer.Option(
        "--score",
        autocompletion=completion.scores,
        help="Scores, comma-separated; the first ranks, two or more make a Pareto front; at first the space's own.",
    ),
]
Ridge = Annotated[str, typer.Option(help='Ridge, relative to the mean diagonal; or "loo": by leave-one-out.')]
Dtype = Annotated[
    str, typer.Option(autocompletion=completion.dtypes, help="Arithmetic of the kernels: float32 or float64.")
]
Download = Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 to its path if it is not there.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images of a folder that cannot be read.")]
MOST_TRIALS = 1_000_000
LONGEST = 1e9  # seconds: thirty years, and no infinity, which JSON has no word for
Trials = Annotated[int | None, typer.Option(min=1, max=MOST_TRIALS, help="Total of trials to reach; 30 at first.")]
Timeout = Annotated[
    float | None, typer.Option(min=1e-6, max=LONGEST, help="End the whole run after this many seconds.")
]
MaxTrialSeconds = Annotated[
    float | None, typer.Option(min=1e-6, max=LONGEST, help="Skip proposals predicted to take longer; 300 at first.")
]
Backend = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.backends, help="Kernel backend: auto, cpu, cuda or reference; auto at first."
    ),
]
Devices = Annotated[
    str | None, typer.Option(help="GPUs of backend cuda by number, such as 0,1; the first one if not given.")
]
Sampler = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.samplers,
        help="tpe, random, evolution (one score) or nsga2; at first tpe, nsga2 for several scores.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, max=1024, help="Processes that search together; cores are divided.")]
PruneLevel = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.5,
        help="Drop candidates that are behind on a part of the subset: by held-out accuracy worse than the best at"
        " this level of a paired test, for example 0.01; by another score of the kernel behind this quantile, for"
        " example 0.5. 0: never.",
    ),
]
Siblings = Annotated[
    bool | None,
    typer.Option(
        "--siblings/--no-siblings",
        help="Score with a proposal what comes nearly free, such as its beginnings and other heads; yes at first.",
    ),
]
Batch = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Proposals asked for at once and scored in one pass; 1 at first.")
]
SamplerSetting = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        autocompletion=completion.sampler_settings,
        help="A setting of the sampler; may be repeated.",
    ),
]
StartFrom = Annotated[
    str | None,
    typer.Option(
        "--start-from",
        metavar="STUDY",
        autocompletion=completion.studies,
        help="Propose first what that study of the same space found best, for example on smaller images.",
    ),
]
StartTrials = Annotated[
    str | None, typer.Option("--start-trials", metavar="N,N", help="With --start-from: these trials, not its 5 best.")
]
Cluster = Annotated[
    str | None,
    typer.Option(help="Compute the tiles of full kernels on a Dask cluster: tcp://HOST:8786, or local:N processes."),
]
SearchCluster = Annotated[
    str | None,
    typer.Option("--cluster", help="Score candidates on a Dask cluster: tcp://HOST:8786, or local:N processes."),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        is_eager=True,  # before the others: it sets their defaults
        callback=use_file,
        help="Take options from a TOML file; flags win over it.",
    ),
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Print the options in effect as TOML, with where they are from, and end.")
]
