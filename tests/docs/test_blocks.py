"""The blocks of the pages and of the README are run, or skipped with the reason that the page gives.

The rule is on docs/index.md. Every command of a shell block is parsed, those that are not run too; the README's
are run each time, those of the other pages with --long (`make drills`). A page runs in its own folder, in which there
are a finished study of 16 trials, gray images of two classes (`photos/`, `new.npz`), `ARCH.json` and `nas.toml`. Its
shell blocks run in their order, its Python blocks as one program after them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from command_line import ARCH
from PIL import Image

from nas_cntk.cli import app

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
LANGUAGES = {"sh", "python", "toml", "text", "console", ""}
GENERATED = ("docs/cli.md", "docs/results.md")  # help, and what was typed for hours
SECONDS = 300


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    skipped: str | None  # why it is not run

    @property
    def file(self) -> str | None:
        """The name of the file whose text this is."""
        found = re.match(r"# ([\w-]+\.(?:py|toml))\n", self.text)
        return None if found is None else found[1]


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    return parse(page, (ROOT / page).read_text(encoding="utf-8"))


def parse(page: str, text: str) -> list[Block]:
    found, reason, opened, body = [], None, None, []
    for number, line in enumerate(text.splitlines(), 1):
        if opened is None and line.startswith("```"):
            opened, body = (number, line.removeprefix("```")), []
        elif opened is not None and line == "```":
            found.append(Block(page, opened[0], opened[1], "".join(f"{part}\n" for part in body), reason))
            opened, reason = None, None
        elif opened is not None:
            body.append(line)
        elif line.strip():
            mark = re.fullmatch(r"<!-- not run: (.+) -->", line)
            reason = mark[1] if mark is not None else None
    assert opened is None, f"{page}: a block is not closed"
    return found


RUN = [
    pytest.param(page, marks=() if page == "README.md" else pytest.mark.long)
    for page in PAGES
    if any(block.language in ("sh", "python") and block.skipped is None for block in blocks(page))
]
SKIPPED = [b for page in PAGES for b in blocks(page) if b.skipped is not None]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `nas-cntk` runs in small and nothing reaches the user's home."""
    programs, home = tmp_path_factory.mktemp("bin"), tmp_path_factory.mktemp("home")
    small = (Path(__file__).parent / "nas-cntk").read_text().split("\n", 1)[1]
    (programs / "nas-cntk").write_text(f"#!{sys.executable}\n{small}")
    (programs / "nas-cntk").chmod(0o755)
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(home), "COLUMNS": "80", "MPLBACKEND": "agg"}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """What every page finds in its folder."""
    folder = tmp_path_factory.mktemp("prepared")
    images = []
    for name, shade in (("cats", 90), ("dogs", 140)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(50):
            pixels = np.random.default_rng([shade, number]).integers(0, 100, (8, 8)) + shade
            images.append(pixels.astype(np.uint8))
            Image.fromarray(images[-1]).save(folder / "photos" / name / f"{number:03d}.png")
    np.savez(folder / "new.npz", x=np.stack(images))
    (folder / "ARCH.json").write_text(json.dumps(ARCH))
    (folder / "nas.toml").write_text("seed = 1\ntrials = 16\n")
    call(["bash", "-eu", "-c", "nas-cntk search --quiet"], "the study of every page", folder, environment)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "page"))


def run_page(found: list[Block], folder: Path, environment: dict[str, str]) -> None:
    program = ""
    for block in found:
        if block.skipped is not None or block.language in ("text", "console", ""):
            continue
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            # With a line after it, so that bash is there while the last command runs, as it is for who types it.
            call(["bash", "-eu", "-c", f"{block.text}\n:"], f"{block.page}:{block.line}", folder, environment)
        elif block.language == "python":
            # Empty lines before it, so that a traceback names the line of the page.
            program += "\n" * (block.line - program.count("\n")) + block.text
    if program:
        (folder / "page.py").write_text(program, encoding="utf-8")
        call([sys.executable, "page.py"], found[0].page, folder, environment)


def call(command: list[str], where: str, folder: Path, environment: dict[str, str]) -> None:
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, f"{where}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run(page: str, folder: Path, environment: dict[str, str]) -> None:
    run_page(blocks(page), folder, environment)


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each nas-cntk of a shell block with a command; a variable is 1."""
    found = []
    for line in re.sub(r"\$(\w+|\{.*?\}|\(.*?\))", "1", text.replace("\\\n", " ")).splitlines():
        if "nas-cntk" not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = [*lexer, "|"]
        while "nas-cntk" in words:
            words = words[words.index("nas-cntk") + 1 :]
            end = next(place for place, word in enumerate(words) if word and set(word) <= set("();<>|&"))
            found.append(words[:end])
    return [arguments for arguments in found if arguments and not arguments[0].startswith("--")]


def parsed(arguments: list[str]) -> None:
    """Parse a command line without running it; what is wrong with it is raised."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("nas-cntk", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_every_command_of_a_page_is_one(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nas.toml").touch()
    for block in blocks(page):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        for name in re.findall(r"> (\S+\.toml)", block.text):
            (tmp_path / name).touch()
        for arguments in commands(block.text) if block.language == "sh" else ():
            try:
                parsed(arguments)
            except Exception as error:
                pytest.fail(f"{page}:{block.line}: nas-cntk {' '.join(arguments)}: {error}")


@pytest.mark.parametrize("block", SKIPPED, ids=lambda block: f"{block.page}:{block.line}")
def test_blocks_that_are_not_run(block: Block) -> None:
    pytest.skip(block.skipped)


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{page}:{block.line}: {block.language}"
            assert block.language or page in GENERATED, f"{page}:{block.line}: text, sh, python or toml?"
            commands = re.findall(r"^nas-cntk .*", block.text, re.M)
            assert not commands or block.language == "sh" or page in GENERATED, f"{page}:{block.line}: mark it sh"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    "text",
    [
        "```sh\nnas-cntk search --sapce plain\n```\n",
        "```sh\nfalse\ntrue\n```\n",
        "```python\nimport nas_cntk\nnas_cntk.kernels_of\n```\n",
        "```toml\n# a.toml\nsubest = 3\n```\n```sh\nnas-cntk search --config a.toml --show-config\n```\n",
    ],
)
def test_a_broken_block_is_found(text: str, folder: Path, environment: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match=r"page\.md"):
        run_page(parse("page.md", text), folder, environment)


def test_commands_are_found_and_parsed() -> None:
    text = (
        "cd a && nas-cntk show $N \\\n  --study s | head > b.txt  # nas-cntk no\nnas-cntk --version\nnas-cntk sho 1\n"
    )
    first, second = commands(text)
    assert (first, second) == (["show", "1", "--study", "s"], ["sho", "1"])
    parsed(first)
    wrong = {"No such command": second, "No such option": ["db", "copy", "--fast"], "Missing parameter": ["show"]}
    for words, arguments in wrong.items():
        with pytest.raises(Exception, match=words):
            parsed(arguments)


def test_a_reason_is_for_the_next_block_only() -> None:
    text = "<!-- not run: no -->\n\n```sh\na\n```\n\n```sh\nb\n```\n<!-- not run: no -->\nWords.\n```sh\nc\n```\n"
    assert [block.skipped for block in parse("page.md", text)] == ["no", None, None]
