"""The site: every page is in its table of contents, every link leads somewhere, and it builds without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def pages(repository: Path) -> list[Path]:
    return sorted((repository / "docs").glob("*.md"))


def test_every_page_is_in_the_table_of_contents(repository: Path) -> None:
    listed = re.findall(r"^ +- ([a-z]+\.md)$", (repository / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == [page.name for page in pages(repository)]


def test_links_between_pages_lead_somewhere(repository: Path) -> None:
    count = 0
    for page in [repository / "README.md", *pages(repository)]:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                count += 1
                assert (page.parent / target).is_file(), f"{page.name}: {target}"
    assert count > 40


def test_the_index_names_every_page(repository: Path) -> None:
    text = (repository / "docs" / "index.md").read_text()
    missing = [page.name for page in pages(repository) if f"({page.name})" not in text]
    assert missing == ["index.md"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(repository: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("mkdocs is not installed (extra docs; `make docs` installs it)")
    # Without --quiet, which would not only hide the warnings: strict mode would not count them.
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=repository,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    reference = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for name in ("kernel", "gram", "score_architecture", "CNTKClassifier", "Builder", "load_model"):
        assert f'id="nas_cntk.{name}"' in reference, name
    assert 'id="nas_cntk.errors.ConfigError"' in reference
