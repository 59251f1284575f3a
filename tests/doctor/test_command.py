"""`nas-cntk doctor`: what is printed, and the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run, runner
from rich.console import Console

from nas_cntk.doctor.check import OK, PROBLEM, WARNING, Check
from nas_cntk.doctor.screen import show, verdict


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def test_a_healthy_machine(run: Run, tmp_path: Path) -> None:
    found = run("doctor", "--json").json()
    assert found["ok"] is True
    checks = {check["name"]: check for check in found["checks"]}
    assert set(checks) >= {
        *("nas-cntk", "python", "libraries", "processor", "instructions", "memory", "gpu", "disk", "database"),
        *("leases", "kernels", "speed", "search", "torch", "extras"),
    }
    for check in checks.values():
        assert set(check) == {"name", "state", "found", "remedy"} and check["state"] in (OK, WARNING, PROBLEM)
        assert check["found"] and (check["remedy"] is None) == (check["state"] == OK)
    assert "entry-layers/s" in checks["speed"]["found"] and "30 trials" in checks["search"]["found"]
    assert not list(tmp_path.iterdir()), "it leaves nothing"


def test_a_problem_is_exit_code_1_and_json_all_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setenv("NAS_CNTK_ISA", "nonsense")
    Path("text.db").write_text("no database")
    found = run("doctor", "--db", "text.db", "--json")
    document = json.loads(found.out)
    assert found.code == 1 and document["ok"] is False
    bad = [check["name"] for check in document["checks"] if check["state"] == PROBLEM]
    assert bad == ["instructions", "database"]
    plain = run("doctor", "--db", "text.db")
    assert plain.code == 1 and plain.err == ""
    assert "problem  database      database text.db is not a SQLite database; to mend it: name another" in plain.out
    assert plain.out.splitlines()[-1].startswith("2 problems (instructions, database), ")


def test_wrong_usage(run: Run) -> None:
    found = run("doctor", "--db", "mysql://host/x")
    assert found.code == 2 and found.err.count("\n") == 1 and not found.out


@pytest.mark.parametrize("width", [60, 160])
def test_on_a_terminal_lines_are_folded_under_themselves(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=width, force_terminal=True, no_color=True, highlight=False)
    show(console, Check("disk", PROBLEM, "word " * 40, "do something"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width + 8 and lines[0].startswith(("problem  disk", "\x1b"))
    assert "do something" in lines[-1] and all("disk" not in line for line in lines[1:])


def test_verdicts() -> None:
    ok, warning, problem = Check("a", OK, ""), Check("b", WARNING, "", ""), Check("c", PROBLEM, "", "")
    assert verdict([ok]) == "a search can run here; no warnings"
    assert verdict([ok, warning]) == "a search can run here; 1 warning"
    assert verdict([problem, warning, warning]) == "1 problem (c), 2 warnings"
