"""kill -9 while networks are trained and while a full kernel's tiles are computed: the same numbers in the end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_cntk.records import validations
from nas_cntk.records.migrations import open_records
from nas_cntk.validate.artifacts import study_folder

PROGRAM = textwrap.dedent("""
    import sys
    import time
    import torch
    from nas_cntk.cli import main
    from nas_cntk.kernels import budget
    from nas_cntk.report.validation_view import ValidationView
    from nas_cntk.validate import session, training
    from nas_cntk.validate.forecast import Unit

    delay = float(sys.argv.pop(1))
    torch.set_num_threads(1)
    budget.SIDES = (16, 16)
    training.CHECKPOINT_SECONDS = 0.0
    session.unit = lambda bench, candidate, kind: Unit(candidate, kind, lambda n, m: 1.0)  # timings take seconds
    shown = ValidationView.progress

    def progress(self, fraction):
        shown(self, fraction)
        if fraction > 0:
            print("at", fraction, flush=True)
        time.sleep(delay)  # so that no machine is done before the blow

    ValidationView.progress = progress
    sys.argv[0] = "nas-cntk"
    main()
""")
SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.relu(b.conv(b.input(), trial.suggest_categorical("kernel", [1, 3])))
    x = b.relu(b.conv(x, 3))
    b.dense(b.flatten(x))
    return b.build()
"""


class Quiet:
    """A screen that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nas_cntk.search import session
    from nas_cntk.search.settings import Options, Problem

    folder = tmp_path_factory.mktemp("searched")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((330, 4, 4, 1)).astype(np.float32)
    y = rng.integers(0, 2, 330)
    x[:, :2] += 0.4 * (2 * y - 1)[:, None, None, None]
    np.savez(folder / "images.npz", x=x[:250], y=y[:250], x_test=x[250:], y_test=y[250:])
    (folder / "small.py").write_text(SPACE)
    problem = Problem(f"npz:{folder}/images.npz", None, str(folder / "small.py"), 60, 60, 0)
    session.search(str(folder / "nas.db"), "small", problem, Options(3, sampler="random"), Quiet())
    return folder


def start(folder: Path, delay: float, arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(delay), "validate", "--db", str(folder / "nas.db"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def outcome(folder: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """What is recorded, without times, and the weights."""
    records = open_records(str(folder / "nas.db"), write=False)
    found = [one.to_dict() for one in validations.validations(records, 1)]
    records.close()
    weights = study_folder(str(folder / "nas.db"), "small").glob("*.safetensors")
    return [_timeless(one) for one in found], {path.name: path.read_bytes() for path in sorted(weights)}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("seconds", "finished", "done_before")}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, delay",
    [
        (["--only", "cnn", "--top", "2", "--epochs", "40", "--width", "4"], 0.05),
        pytest.param(
            ["--only", "cnn", "--top", "2", "--epochs", "4", "--width", "4", "--recipe", "paper"],
            0.05,
            marks=pytest.mark.long,
        ),
        pytest.param(["--only", "kernel", "--top", "2"], 0.04, marks=pytest.mark.long),
    ],
    ids=["standard", "paper", "tiles"],
)
def test_a_killed_validation_ends_as_an_undisturbed_one(
    searched: Path,
    tmp_path: Path,
    figure: Callable[[str], None],
    times: Callable[[int, int], int],
    arguments: list[str],
    delay: float,
) -> None:
    blows = times(2, 10)
    for name in ("quiet", "disturbed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nas.db").write_bytes((searched / "nas.db").read_bytes())
    quiet = start(tmp_path / "quiet", 0.0, arguments)
    quiet.communicate()
    assert quiet.returncode == 0

    rng = random.Random(" ".join(arguments))
    kills = 0
    for _ in range(blows):
        process = start(tmp_path / "disturbed", delay, arguments)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("at "):
                break
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert kills == blows, "the validation was over too soon for the drill to mean anything"
    last = start(tmp_path / "disturbed", 0.0, arguments)
    last.communicate()
    assert last.returncode == 0
    assert outcome(tmp_path / "disturbed") == outcome(tmp_path / "quiet")
    left = {
        path.suffix or path.name for path in study_folder(str(tmp_path / "disturbed" / "nas.db"), "small").iterdir()
    }
    assert left <= {".safetensors", ".lock"}, "unfinished work was left"
    figure(f"{' '.join(arguments[:2])}: {kills} x kill -9 of validate, records and weights equal to an undisturbed run")
