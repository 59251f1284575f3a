"""Files are whole or not there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nas_cntk.errors import RecordsError
from nas_cntk.files import require_writable, whole, write_file


def test_a_file_that_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"before")
    for error in (OSError("no space"), KeyboardInterrupt(), ValueError("not a number")):
        with pytest.raises(type(error)), whole(path) as file:
            file.write(b"half")
            raise error
        assert path.read_bytes() == b"before"
    with whole(path) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before", "until it is whole"
    assert path.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_link_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"first", b"second"):
        with whole(link) as file:
            file.write(content)
        assert link.is_symlink() and target.read_bytes() == content


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    require_writable(pipe)  # without a byte, and without an end
    with whole(pipe) as file:
        file.write(b"through")
    reader.join(10)
    assert found == [b"through"] and pipe.is_fifo()


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127])
def test_names_as_long_as_they_may_be(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / name, lambda file: file.write(b"long"))
    assert os.listdir(tmp_path) == [name]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "nowhere" / "a", tmp_path / "file" / "a"):
        with pytest.raises(OSError):
            require_writable(path)
    assert os.listdir(tmp_path) == ["file"]
    require_writable(tmp_path / "file")
    require_writable(tmp_path / "new")
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(RecordsError, match="cannot be written: File exists; what is recorded is kept"):
        write_file(tmp_path / "file" / "a", lambda file: None)
    write_file(tmp_path / "new" / "folder" / "a", lambda file: None)
    assert (tmp_path / "new" / "folder" / "a").is_file()
