"""The room's own page names every module of it, each once."""

import re
from collections import Counter
from pathlib import Path

import include.maintenance


def test_the_map_is_whole() -> None:
    page = (include.maintenance.__doc__ or "").split("\n\n", 1)[1].replace("python -m include.maintenance", "")
    named = Counter(re.findall(r"\b[a-z]+(?:_[a-z]+)*\b(?=[,:;.\n])", page.split("``")[0]))
    named += Counter(re.findall(r"\b[a-z]+_commands\b", page))
    there = {path.stem for path in Path(include.maintenance.__file__).parent.glob("*.py") if path.stem[0] != "_"}
    assert set(named) == there
    assert set(named.values()) == {1}
