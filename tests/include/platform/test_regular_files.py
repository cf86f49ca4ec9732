"""Neither links nor pipes are read or written through."""

import os
from pathlib import Path

import pytest

from include.platform import regular_files
from include.platform.regular_files import NoRegularFile


def test_a_file_is_opened_and_a_link_or_pipe_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\n")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "way").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: opening it as a file would wait without end
    with regular_files.open_to_read(tmp_path / "way" / "file") as file:
        assert file.read() == b"one\n", "the folder may be a link"
    for name in ("link", "pipe", "folder"):
        assert not regular_files.is_regular(tmp_path / name)
        with pytest.raises(NoRegularFile, match=f"{name} is a link or no ordinary file, and is left alone; remove it"):
            regular_files.open_to_read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        regular_files.open_to_read(tmp_path / "nothing")
    assert not regular_files.is_regular(tmp_path / "nothing")
    assert not regular_files.is_regular(tmp_path / "file" / "within")


def test_a_file_is_made_anew_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("one\n")
    for name in ("link", "file"):
        with pytest.raises(FileExistsError):
            regular_files.create(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()
    first, second = (regular_files.partial_of(tmp_path / "new") for _ in range(2))
    assert first != second, "nobody can tell the name before"
    with regular_files.create(first) as file:
        file.write(b"two\n")
    assert first.read_text() == "two\n"
    assert first.stat().st_mode & 0o777 == 0o600


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "noted"
    with regular_files.replacing(target, 0o640) as file:
        file.write(b"one\n")
        assert not target.exists()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("one\n", 0o640)
    with pytest.raises(TypeError), regular_files.replacing(target) as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert target.read_text() == "one\n"
    assert list(tmp_path.iterdir()) == [target]
