"""The page itself: whole, offline, escaped, readable by a screen reader, and written whole."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from command_line import Run
from hostile_study import CLASSES, STUDY, Reported
from page_reader import Element, read_page

from nas_cntk.report.html.report import default_name
from nas_cntk.report.text import clean

SECTIONS = ("leaderboard", "history", "proxy", "cost", "architectures", "mistakes", "reproduce")
FETCHES = {"src", "srcset", "href", "xlink:href", "action", "formaction", "data", "poster", "background", "ping"}


def check(page: Element) -> None:
    """What holds of every page."""
    elements = page.all()
    tags = {one.tag for one in elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base", "b", "foreignobject"}
    for one in elements:
        for name, value in one.attributes.items():
            assert not name.startswith("on"), f"{name} in <{one.tag}>"
            assert "url(" not in value.lower() and "javascript:" not in value.lower()
            if name in FETCHES:
                assert value.startswith(("#", "data:image/png;base64,")) or value == "data:,", value
    for style in page.find("style"):
        assert not re.search(r"url\(|@import|https?:", style.text)
    (policy,) = page.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")

    ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
    assert len(ids) == len(set(ids)), "every id once"
    for one in elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(one.attributes.get(name, "").split()) <= set(ids)
        if one.tag == "a":
            assert one.attributes["href"].removeprefix("#") in ids
        if one.tag == "img":
            assert one.attributes["alt"]
        if one.tag == "svg":
            labelled = one.attributes.get("role") == "img" and one.find("title") and one.find("desc")
            hidden = one.attributes.get("aria-hidden") == "true"
            assert labelled or hidden or any(one in parent.all() for parent in page.find("ul", class_="legend"))
    assert [one.attributes.get("lang") for one in page.find("html")] == ["en"]
    assert len(page.find("h1")) == 1 and len(page.find("main")) == 1
    assert tuple(one.attributes["aria-labelledby"] for one in page.find("section")) == SECTIONS


def test_a_validated_study_fills_every_section(validated: Run, reported: Reported) -> None:
    page = reported()
    check(page)
    plots = {one.attributes["aria-labelledby"].split()[0] for one in page.find("svg", role="img")}
    assert plots == {
        *("history-title", "proxy-0-title", "proxy-1-title", "cost-title", "front-title"),
        *(f"architecture-{n}-title" for n in (1, 2, 3)),
    }
    assert page.find("table", class_="matrix") and page.find("table", class_="bars") and page.find("img")
    assert "kernels of 80 images, tested on 80 held out" in page.text, "as many as there were, not as were asked for"


def test_hostile_names_are_text(validated: Run, reported: Reported, tmp_path: Path) -> None:
    page = reported()
    check(page)
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.find("h1")[0].text == STUDY and page.find("title")[0].text.startswith(STUDY)
    names = [row.text for row in page.find("table", class_="matrix")[0].find("tbody")[0].find("th")]
    assert sorted(names) == sorted(" ".join(clean(name).split()) for name in CLASSES)
    assert CLASSES[0] in names and CLASSES[1] in names, "what can be seen is shown as it is"
    assert "npz:<img src=x>.npz" in page.text and "<b>kernel" in page.text
    assert all(letter == "\n" or ord(letter) >= 32 for letter in written)
    assert not set("\x7f\x9b\u202e\u2066") & set(written)
    assert str(tmp_path.parent) not in written, "no folder of this machine"


def test_what_is_not_seen_is_replaced() -> None:
    assert clean("a\x1b[0m\u202eb\u2069\ud800\tc\né‍象") == "a\ufffd[0m\ufffdb\ufffd\ufffd c é‍象"


@pytest.mark.parametrize("kind", ["none", "pruned", "one"])
def test_small_studies_have_a_report(kind: str, run: Run, reported: Reported) -> None:
    arguments = {
        "none": ("--timeout", "0.000001"),
        "pruned": ("--max-trial-seconds", "0.000001"),
        "one": (),
    }[kind]
    trials = "1" if kind == "one" else "2"
    small = ("--subset", "40", "--holdout", "40", "--db", "other.db", "--study", kind)
    assert run("search", "--trials", trials, *small, *arguments).code == 0
    result = run("report", "--db", "other.db", "--output", "page.html")
    assert result.code == 0, result.err
    following = {"none": "resume", "pruned": "leaderboard", "one": "validate"}[kind]
    assert f"next: nas-cntk {following} --study {kind} --db other.db" in result.out
    page = reported(db="other.db", study=kind)
    check(page)
    words = {
        "none": "no finished trial yet",
        "pruned": "pruned: cost: predicted",
        "one": "With 1 scored trials, fewer than 10, nothing is said",
    }[kind]
    assert words in page.text
    drawn = {one.attributes["aria-labelledby"].split()[0] for one in page.find("svg", role="img")}
    assert drawn == ({"history-title", "architecture-1-title"} if kind == "one" else set())


def test_images_can_be_left_out_and_the_page_says_so(run: Run, reported: Reported) -> None:
    page = reported("--no-images")
    check(page)
    assert not page.find("img") and "Left out: --no-images was given." in page.text
    result = run("report", "--db", "nas.db", "--max-seconds", "0.00001", "--output", "b.html")
    assert "without confusion matrix and images: the kernel of 80 and 80 images would take about" in result.out
    assert "--max-seconds 1 includes it" in result.out
    assert run("report", "--no-images", "--data", "digits", "--db", "nas.db").code == 2


def test_data_that_are_gone_are_a_note_and_data_that_are_others_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("report", "--db", "nas.db", "--data", "digits", "--output", "page.html")
    assert result.code == 1 and "the data of study" in result.err and not Path("page.html").exists()
    from nas_cntk import data

    def gone(*_: object, **__: object) -> object:
        from nas_cntk.errors import DataError

        raise DataError("'npz:gone' cannot be read: No such file")

    monkeypatch.setattr(data, "load", gone)
    result = run("report", "--db", "nas.db", "--output", "page.html")
    assert (
        result.code == 0 and "note: without confusion matrix and images: the study's data cannot be read" in result.out
    )


def test_it_says_what_it_wrote_and_what_to_type_next(validated: Run) -> None:
    result = validated("report", "--db", "nas.db", "--study", STUDY)
    name = default_name(STUDY)
    assert result.code == 0 and f"wrote {name}: " in result.out
    assert "next: nas-cntk export " in result.out and "--to model" in result.out
    assert "/" not in name and "<" not in name and '"' not in name
    read_page(Path(name).read_text(encoding="utf-8"))
    assert len(os.fsencode(default_name("é" * 200))) < 255


def test_the_database_is_only_read(run: Run, reported: Reported, tmp_path: Path) -> None:
    before = (tmp_path / "nas.db").read_bytes()
    reported()
    # SQLite makes an index of a write-ahead log for readers too; the log itself stays empty.
    assert {path.name for path in tmp_path.iterdir()} <= {"nas.db", "nas.db-shm", "nas.db-wal", "page.html"}
    assert (tmp_path / "nas.db").read_bytes() == before
    assert not (tmp_path / "nas.db-wal").exists() or not (tmp_path / "nas.db-wal").stat().st_size


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.html").write_text("the old one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = run("report", "--db", "nas.db", "--output", "page.html", "--no-images")
    assert result.code == 1 and "page.html cannot be written: No space left on device" in result.err
    assert (tmp_path / "page.html").read_text() == "the old one"
    assert not list(tmp_path.glob("*.partial"))
    assert run("report", "--db", "nas.db", "--output", ".").code == 2


def test_without_jinja2_there_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("report", "--db", "nas.db", "--output", "page.html")
    assert result.code == 1 and not Path("page.html").exists()
    assert result.err == "error: the report needs Jinja2, which is not installed: pip install 'nas-cntk[report]'\n"


def test_the_templates_are_in_the_wheel(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    pathutil = pytest.importorskip("scikit_build_core.build._pathutil")
    settings = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["scikit-build"]
    monkeypatch.chdir(repository)
    pairs = pathutil.iter_package_files(
        packages=settings["wheel"]["packages"],
        include=[],
        src_exclude=settings["sdist.exclude"] if "sdist.exclude" in settings else [],
        target_exclude=settings["wheel"]["exclude"],
        build_dir="build",
        mode="default",
    )
    shipped = {str(target) for _, target in pairs}
    templates = sorted((repository / "nas_cntk" / "report" / "html" / "templates").iterdir())
    assert [path.name for path in templates] == ["charts.html", "page.html", "style.css"]
    assert {f"nas_cntk/report/html/templates/{path.name}" for path in templates} <= shipped
    assert "nas_cntk/kernels/native/cpu.cpp" not in shipped, "the exclusions were looked at"
