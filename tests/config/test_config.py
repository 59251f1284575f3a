"""Options from a file: what wins, what is refused, what comes back as TOML, and what a study keeps."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result, Run

Write = Callable[..., str]
SMALL = 'space = "small.py"\nsubset = 40\nholdout = 40\ntrials = 2\n'


def one_error(result: Result, code: int) -> str:
    assert result.code == code, result
    lines = result.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.err
    return lines[0].removeprefix("error: ")


def origins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z-]+) = .*  # (.*)$", text, re.M))


def test_flags_win_over_the_file_and_the_file_over_the_defaults(run: Run, write: Write) -> None:
    path = write(SMALL + "seed = 7\n")
    out = run("search", "--config", path, "--show-config", "--subset", "50").out
    values = tomllib.loads(out)
    assert (values["subset"], values["holdout"], values["seed"], values["dtype"]) == (50, 40, 7, "float32")
    where = origins(out)
    assert (where["subset"], where["holdout"], where["dtype"]) == ("flag", "nas.toml", "default")
    assert "# timeout (not given): no limit" in out


def test_a_flag_that_repeats_the_default_is_a_flag(run: Run, write: Write) -> None:
    out = run("search", "--seed", "0", "--config", write("seed = 7\n"), "--show-config").out
    assert tomllib.loads(out)["seed"] == 0 and origins(out)["seed"] == "flag"


def test_show_config_searches_nothing_and_makes_no_database(run: Run, write: Write, tmp_path: Path) -> None:
    assert run("search", "--config", write(SMALL), "--show-config").code == 0
    assert not (tmp_path / "runs").exists()


EVERYTHING = r"""
data = "digits"
image-size = 4
space = "small.py"
trials = 3
subset = 41
holdout = 42
score = ["loo_accuracy", "params"]
seed = 9223372036854775807
sampler = "nsga2"
prune-level = 0
siblings = false
batch = 3
start-from = "other"
start-trials = "3,7"
workers = 2
cluster = "local:2"
study = "a \"study\" of \\ ünïcode \u007f"
db = "runs/my.db"
backend = "cpu"
devices = "0,1"
timeout = 1e9
max-trial-seconds = 0.5
ridge = "loo"
dtype = "float64"
download = true
skip-bad = true
quiet = true
json-lines = true
[sampler-setting]
population_size = 12
crossover_prob = 0.25
"""


def test_everything_that_flags_can_say_round_trips(run: Run, write: Write) -> None:
    first = run("search", "--config", write(EVERYTHING), "--show-config").out
    assert set(tomllib.loads(first)) == set(tomllib.loads(EVERYTHING)), "an option is missing in the file or the output"
    second = run("search", "--config", write(first, "second.toml"), "--show-config").out
    assert tomllib.loads(second) == tomllib.loads(first)
    assert set(origins(second).values()) == {"second.toml"}
    values = tomllib.loads(first)
    assert values["sampler-setting"] == ["population_size=12", "crossover_prob=0.25"]
    assert values["score"] == "loo_accuracy,params" and values["seed"] == 2**63 - 1
    assert values["study"] == 'a "study" of \\ ünïcode \x7f'


def test_the_example_above_has_every_option_of_search() -> None:
    from typer.main import get_command

    from nas_cntk.cli import app
    from nas_cntk.config.setting import settings_of

    settings = settings_of(get_command(app).commands["search"])  # type: ignore[attr-defined]
    assert set(settings) == set(tomllib.loads(EVERYTHING))


@pytest.mark.parametrize("command", ["resume", "validate"])
def test_the_other_commands_round_trip_too(run: Run, write: Write, command: str) -> None:
    text = f'db = "a.db"\nseed = 3\n[{command}]\nbackend = "cpu"\n'
    first = run(command, "--config", write(text), "--show-config").out
    table = tomllib.loads(first)[command]
    assert table["db"] == "a.db" and table["backend"] == "cpu" and "seed" not in table
    second = run(command, "--config", write(first, "second.toml"), "--show-config").out
    assert tomllib.loads(second) == tomllib.loads(first)


def test_a_commands_own_table_wins_over_the_top(run: Run, write: Write) -> None:
    path = write('backend = "cpu"\n[search]\nseed = 5\n[resume]\nbackend = "auto"\n[validate]\njson = true\n')
    assert tomllib.loads(run("search", "--config", path, "--show-config").out)["backend"] == "cpu"
    assert tomllib.loads(run("search", "--config", path, "--show-config").out)["seed"] == 5
    assert tomllib.loads(run("resume", "--config", path, "--show-config").out)["resume"]["backend"] == "auto"
    assert tomllib.loads(run("validate", "--config", path, "--show-config").out)["validate"]["json"] is True


def test_underscores_are_dashes(run: Run, write: Write) -> None:
    out = run("search", "--config", write("image_size = 4\n"), "--show-config").out
    assert tomllib.loads(out)["image-size"] == 4
    message = one_error(run("search", "--config", write("image_size = 4\nimage-size = 5\n")), 2)
    assert "image-size is there twice" in message


def test_paths_are_relative_to_the_file(run: Run, write: Write, tmp_path: Path) -> None:
    text = 'data = "npz:x/images.npz"\nspace = "small.py"\ndb = "y.db"\n'
    values = tomllib.loads(run("search", "--config", write(text, "deep/er/nas.toml"), "--show-config").out)
    assert values["data"] == f"npz:{Path('deep/er/x/images.npz')}"
    assert values["space"] == str(Path("deep/er/small.py")) and values["db"] == str(Path("deep/er/y.db"))

    absolute = tmp_path / "z.db"
    text = f'data = "digits"\nspace = "plain"\ndb = "sqlite:///{absolute}"\n'
    values = tomllib.loads(run("search", "--config", write(text, "deep/nas.toml"), "--show-config").out)
    assert (values["data"], values["space"], values["db"]) == ("digits", "plain", f"sqlite:///{absolute}")
    text = 'data = "folder:~/photos"\ndb = "sqlite:///z.db"\n'
    values = tomllib.loads(run("search", "--config", write(text, "deep/nas.toml"), "--show-config").out)
    assert values["data"] == "folder:~/photos" and values["db"] == f"sqlite:///{Path('deep/z.db')}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("subest = 40\n", "nas.toml: unknown key 'subest'; did you mean subset?"),
        ("[serach]\n", "nas.toml: unknown key 'serach'; did you mean search?"),
        ("epochs = 3\n", "epochs is an option of validate: put it under [validate]"),
        ("[validate]\nepoch = 3\n", "nas.toml, [validate]: unknown key 'epoch'; did you mean epochs?"),
        ("[validate]\nsubset = 3\n", "subset is an option of search: put it under [search]"),
        ('config = "other.toml"\n', "--config is a flag only"),
        ('subset = "40"\n', "nas.toml: subset must be a whole number, got '40'"),
        ("subset = 40.0\n", "subset must be a whole number, got 40.0"),
        ("subset = true\n", "subset must be a whole number, got true"),
        ("subset = 0\n", "nas.toml: subset must be 1 or more, got 0"),
        ("prune-level = 0.7\n", "prune-level must be 0 to 0.5, got 0.7"),
        ("timeout = nan\n", "timeout must be 1e-06 to 1e+09, got nan"),
        ('timeout = "1 h"\n', "timeout must be a number, got '1 h'"),
        ("quiet = 1\n", "quiet must be true or false, got 1"),
        ("data = 3\n", "data must be a string, got 3"),
        ("ridge = [1]\n", "ridge must be a string, got [1]"),
        ("score = [1]\n", "score must be a string, got 1"),
        ("sampler-setting = 3\n", "sampler-setting must be a table, or a list of strings NAME=VALUE, got 3"),
        ("sampler-setting = { a = [1] }\n", "sampler-setting must be a table, or a list of strings"),
        ("search = 3\n", "search must be a table, [search], got 3"),
    ],
)
def test_wrong_keys_and_values_are_one_line(run: Run, write: Write, text: str, said: str) -> None:
    assert said in one_error(run("search", "--config", write(text)), 2)


def test_another_commands_table_is_checked_too(run: Run, write: Write) -> None:
    assert "[resume]: unknown key" in one_error(run("validate", "--config", write("[resume]\nseed_ = 1\n")), 2)


def test_a_file_that_cannot_be_read_is_one_line(run: Run, write: Write, tmp_path: Path) -> None:
    assert "cannot read none.toml: No such file" in one_error(run("search", "--config", "none.toml"), 1)
    assert "cannot read .: Is a directory" in one_error(run("search", "--config", "."), 1)
    assert "is no TOML: " in one_error(run("search", "--config", write("trials == 3\n")), 1)
    assert "is no TOML: " in one_error(run("search", "--config", write(f"trials = {'9' * 5000}\n")), 1)
    assert "nested too deeply" in one_error(run("search", "--config", write("trials = " + "[" * 5000)), 1)
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00")
    assert "cannot read binary.toml" in one_error(run("search", "--config", "binary.toml"), 1)


def test_a_study_keeps_its_options_and_gives_them_back(run: Run, write: Write) -> None:
    path = write(SMALL + 'db = "n.db"\n[sampler-setting]\nn_startup_trials = 3\n', "at/nas.toml")
    assert run("search", "--config", path, "--seed", "4", "--quiet").code == 0
    db = str(Path("at/n.db"))
    out = run("studies", "config", "--db", db).out
    assert "nas.toml" in out.splitlines()[0]
    where, values = origins(out), tomllib.loads(out)
    assert (where["subset"], where["seed"], where["dtype"]) == ("nas.toml", "flag", "default")
    assert where["sampler-setting"] == "nas.toml" and values["sampler-setting"]["n_startup_trials"] == 3

    assert run("resume", "--config", path, "--trials", "3", "--quiet").code == 0
    out = run("studies", "config", "digits-small-1", "--db", db).out
    assert tomllib.loads(out)["trials"] == 3 and origins(out)["trials"] == "changed after 2 trials"

    # What it printed is the same search: it goes on with the study, which only an equal identity may.
    again = run("search", "--config", write(out, "again.toml"), "--study", "digits-small-1", "--db", db, "--quiet")
    assert again.code == 0 and "complete, 3 of 3 trials" in again.out


def test_a_study_of_before_there_were_files_has_its_options_too(run: Run, write: Write, tmp_path: Path) -> None:
    import json
    import sqlite3
    from contextlib import closing

    assert run("search", "--config", write(SMALL), "--quiet").code == 0
    with closing(sqlite3.connect(tmp_path / "runs" / "nas.db")) as connection, connection:
        (text,) = connection.execute("SELECT config FROM ncntk_studies").fetchone()
        config = {key: value for key, value in json.loads(text).items() if key != "asked"}
        connection.execute("UPDATE ncntk_studies SET config = ?", (json.dumps(config),))
    out = run("studies", "config").out
    assert tomllib.loads(out)["subset"] == 40 and origins(out)["subset"] == "as stored"


def test_validate_takes_the_study_and_the_database_of_the_search(run: Run, write: Write) -> None:
    path = write(SMALL + 'db = "n.db"\nstudy = "mine"\n[validate]\ntop = 1\ntrain-images = 40\nonly = "kernel"\n')
    assert run("search", "--config", path, "--quiet").code == 0
    result = run("validate", "--config", path, "--json")
    assert [one["train_images"] for one in result.json()["validations"]] == [40]


@pytest.mark.parametrize(
    "text, code, said",
    [
        ("trials = 0x" + "f" * 5000, 2, "trials must be below 9e+18, got a number of thousands of digits"),
        ("timeout = 1" + "0" * 400, 2, "timeout must be below 9e+18"),
        ("sampler-setting = { a = 1" + "0" * 400 + " }", 2, "sampler-setting must be below 9e+18"),
        ("seed" + ".a" * 900 + " = 1", 2, "seed must be a whole number"),
        ("seed" + ".a" * 30_000 + " = 1", 1, "too many dots on a line"),
        ("# " + "x" * 70_000, 1, "too large"),
    ],
)
def test_what_would_take_the_reader_for_ever_is_one_line(
    run: Run, write: Write, text: str, code: int, said: str
) -> None:
    assert said in one_error(run("search", "--config", write(text + "\n")), code)


def test_a_device_is_not_read_to_its_end(run: Run) -> None:
    assert "too large" in one_error(run("search", "--config", "/dev/zero"), 1)


def test_what_is_not_seen_is_escaped(run: Run, write: Write) -> None:
    path = write('study = "a\\u001b[31m\\u009b\\u202e\\u007f"\n')
    out = run("search", "--config", path, "--show-config").out
    assert all(letter.isprintable() for letter in out.replace("\n", ""))
    assert tomllib.loads(out)["study"] == "a\x1b[31m\x9b\u202e\x7f"
