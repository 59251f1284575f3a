"""The blocks of the pages and of the README are run, or skipped with the reason that the page gives.

The rule is on docs/index.md. A page runs in its own folder, in which there are a finished study of 16 trials, gray
images of two classes (`photos/`, `new.npz`), `ARCH.json` and `nas.toml`. Its shell blocks run in their order, its
Python blocks as one program after them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_line import ARCH
from PIL import Image

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


RUN = [page for page in PAGES if any(b.language in ("sh", "python") and b.skipped is None for b in blocks(page))]
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
            call(["bash", "-eu", "-c", block.text], f"{block.page}:{block.line}", folder, environment)
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


def test_a_reason_is_for_the_next_block_only() -> None:
    text = "<!-- not run: no -->\n\n```sh\na\n```\n\n```sh\nb\n```\n<!-- not run: no -->\nWords.\n```sh\nc\n```\n"
    assert [block.skipped for block in parse("page.md", text)] == ["no", None, None]
