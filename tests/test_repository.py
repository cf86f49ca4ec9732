"""The checkout itself: nothing of one machine in it, nothing unfinished, nothing unused."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.order import LONGEST

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 500  # lines
CODE = {".py", ".sql", ".sh", ".lua", ".sol", ".js", ".css", ".html", ".yaml", ".toml", ".env", ""}
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:root|home/\w+|Users/\w+|work/\w+|opt/(?!airflow)\w+|private/\w+)\b")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")


def _files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("the checkout is not a git repository")
    return sorted(path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file())


def _texts() -> dict[str, str]:
    found = {}
    for path in _files():
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text()
        except UnicodeDecodeError:
            continue
    return found


def test_no_path_of_one_machine_is_in_a_file() -> None:
    found = {name: hits for name, text in _texts().items() if (hits := MACHINE_PATHS.findall(text))}
    assert found == {}
    assert MACHINE_PATHS.search('"/home' + '/ada/checkout"')
    assert not MACHINE_PATHS.search("https://example.org/home/page ./opt/x /opt/airflow /var/log")


def test_nothing_is_left_unfinished() -> None:
    assert {name: hits for name, text in _texts().items() if (hits := UNFINISHED.findall(text))} == {}
    stubs = []
    for name, text in _texts().items():
        if name.endswith(".py"):
            raised = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Raise))
            stubs += [f"{name}:{node.lineno}" for node in raised if "NotImplementedError" in ast.dump(node)]
    assert stubs == []


def test_files_are_short_enough_to_read() -> None:
    long = {
        name: len(text.splitlines())
        for name, text in _texts().items()
        if Path(name).suffix in CODE and name != "LICENSE" and len(text.splitlines()) > LONGEST_FILE
    }
    assert long == {}


def test_files_are_text_of_one_kind() -> None:
    for name, text in _texts().items():
        assert "\r" not in text, f"{name} has carriage returns"
        if text and not name.endswith((".svg", ".json")):
            assert text.endswith("\n"), f"{name} does not end with a line feed"


def test_what_is_large_or_secret_is_not_in_the_checkout() -> None:
    for path in _files():
        assert path.stat().st_size < 2_000_000, f"{path.name} is large"
        assert path.name not in (".env", "secrets.json", "roles.json")
    for name, text in _texts().items():
        assert "PRIVATE KEY-----\nMII" not in text, name


def _keys(section: dict[str, object], prefix: str = "") -> list[str]:
    found = []
    for key, value in section.items():
        found.append(key)
        if isinstance(value, dict) and not prefix.startswith("schedules"):
            found += _keys(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            found += _keys(value[0], f"{prefix}{key}.")
    return found


def test_every_key_of_the_configuration_is_used() -> None:
    configuration = yaml.safe_load((ROOT / "config" / "operations.yaml").read_text())
    code = "\n".join(
        text
        for name, text in _texts().items()
        if name.startswith(("include/", "dags/", "plugins/", "demo/"))
        and name not in ("include/settings.py", "include/sections.py", "include/maintenance_sections.py")
    )
    unused = [key for key in _keys(configuration) if not re.search(rf"\b{key}\b", code)]
    assert unused == []


def test_every_command_of_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for name, text in _texts().items():
        if name.endswith(".md"):
            named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.M))
            assert named <= targets, f"{name} names {named - targets}"
            for module in re.findall(r"python -m ((?:include|demo|tests|benchmarks)[\w.]*)", text):
                place = ROOT / module.replace(".", "/")
                assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), f"{name}: {module}"


def test_links_of_the_documentation_lead_somewhere() -> None:
    for name, text in _texts().items():
        if name.endswith(".md"):
            for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
                assert (ROOT / name).parent.joinpath(target).exists(), f"{name} links to {target}"


def test_the_files_that_go_first_exist() -> None:
    assert [name for name in LONGEST if not (ROOT / name).exists()] == []
