"""What a shell is offered, asked as bash and zsh ask: through the environment of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "optuna", "sqlalchemy", "sklearn", "cupy", "scipy", "zarr", "PIL")


def ask(folder: Path, *words: str) -> list[str]:
    """Return what bash would be offered for the last of `words`, which may be empty."""
    environment = os.environ | {
        "_NAS_CNTK_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("nas-cntk", *words)),
        "COMP_CWORD": str(len(words)),
    }
    result = run(folder, environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def run(folder: Path, environment: dict[str, str], *code: str) -> subprocess.CompletedProcess[str]:
    program = ("-c", *code) if code else ("-m", "nas_cntk")
    return subprocess.run([sys.executable, *program], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("se",), ["search"]),
        (("search", "--space", ""), ["nasbench201", "plain", "resnet", "stages"]),
        (("search", "--space", "re"), ["resnet"]),
        (("search", "--score", "loo_"), ["loo_accuracy", "loo_mse"]),
        (("search", "--score", "flops,loo_a"), ["flops,loo_accuracy"]),
        (("search", "--score", "loo_mse,loo_"), ["loo_mse,loo_accuracy"]),
        (("search", "--sampler", ""), ["tpe", "random", "nsga2", "evolution"]),
        (("search", "--sampler", "evolution", "--sampler-setting", "to"), ["tournament=3"]),
        (("search", "--data", "f"), ["folder:"]),
        (("search", "--backend", "c"), ["cpu", "cuda"]),
        (("search", "--show"), ["--show-config"]),
        (("search", "--space", "mine/"), []),  # then the shell offers files
        (("data", "inspect", "digits", "--space", "st"), ["stages"]),
    ],
)
def test_names_are_offered(tmp_path: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert ask(tmp_path, *words) == offered


def test_studies_are_offered_the_newest_first(tmp_path: Path) -> None:
    for study in ("first", "second"):
        arguments = ["--study", study, "--subset", "20", "--holdout", "20", "--trials", "1", "--quiet"]
        subprocess.run([sys.executable, "-m", "nas_cntk", "search", *arguments], cwd=tmp_path, check=True)
    assert set(ask(tmp_path, "show", "3", "--study", "")) == {"first", "second"}
    assert ask(tmp_path, "studies", "delete", "fi") == ["first"]
    assert ask(tmp_path, "validate", "--study", "s") == ["second"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert ask(elsewhere, "leaderboard", "--study", "") == [] and not list(elsewhere.iterdir())
    assert ask(elsewhere, "leaderboard", "--db", "../runs/nas.db", "--study", "f") == ["first"]
    (elsewhere / "bad.db").write_text("no database")
    assert ask(elsewhere, "leaderboard", "--db", "bad.db", "--study", "") == []


def test_zsh_is_told_what_scores_mean(tmp_path: Path) -> None:
    environment = os.environ | {
        "_NAS_CNTK_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "nas-cntk search --score naswo",
    }
    assert '"naswot":"log determinant' in run(tmp_path, environment).stdout


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import atexit, sys; from nas_cntk.cli import main\n"
        f"atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr))\n"
        "main()"
    )
    for words in ("search --score h", "search --data f", "search --sampler t", "show --study d"):
        environment = os.environ | {
            "_NAS_CNTK_COMPLETE": "complete_bash",
            "COMP_WORDS": f"nas-cntk {words}",
            "COMP_CWORD": "3",
        }
        result = run(tmp_path, environment, code)
        assert result.stderr.strip() == "[]", (words, result.stderr)


def test_installing_writes_to_the_home_it_is_given(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "nas_cntk", "--install-completion", "bash"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    script = tmp_path / ".bash_completions" / "nas-cntk.sh"
    assert "complete_bash" in script.read_text() and str(script) in (tmp_path / ".bashrc").read_text()
