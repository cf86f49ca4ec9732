"""The pages of the room and of its folders name everything in them, each once."""

import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import include.maintenance

ROOM = Path(include.maintenance.__file__).parent
FOLDERS = sorted(path.parent.name for path in ROOM.glob("*/__init__.py"))


def _modules(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.py") if path.stem[0] != "_"}


def test_the_map_of_the_room_is_whole() -> None:
    page = include.maintenance.__doc__ or ""
    assert sorted(re.findall(r"^    ([a-z]+)/ ", page, re.MULTILINE)) == FOLDERS
    named = re.findall(r": ([a-z_, ]+)\.", page[page.index("The modules of the commands: ") :])
    assert set(", ".join(named).split(", ")) == _modules(ROOM)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_map_of_a_folder_is_whole(folder: str) -> None:
    page = import_module(f"include.maintenance.{folder}").__doc__ or ""
    lines = "\n".join(re.findall(r"^    (.*)$", page, re.MULTILINE))
    named = Counter(re.findall(r"[a-z_]+", lines))
    assert set(named) == _modules(ROOM / folder)
    assert set(named.values()) == {1}
