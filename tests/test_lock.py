"""Requirements are exact and complete, and constraints.txt resolves on every Python that we support."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lock import PYTHONS, REQUIREMENTS, ROOT, compile_requirements

OURS = {"include", "demo", "tests", "benchmarks", "dags", "plugins"}
FOLDERS = {
    "requirements.txt": ("include", "dags", "plugins"),
    "demo/requirements.txt": ("demo",),
    "tests/requirements.txt": ("tests", "benchmarks"),
}


def _lines(file: str | Path) -> list[str]:
    lines = (line.split(" #")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _requirements(file: str) -> dict[str, Requirement]:
    """The requirements of one file and of those it takes in, by name."""
    found: dict[str, Requirement] = {}
    for line in _lines(file):
        if line.startswith("-r "):
            found |= _requirements(str((ROOT / file).parent.joinpath(line[3:]).resolve().relative_to(ROOT)))
        else:
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def _pins() -> list[Requirement]:
    return [Requirement(line) for line in _lines("constraints.txt")]


def _version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    assert "*" not in specifier.version
    return specifier.version


def _applies(marker: Marker | None, python: str) -> bool:
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    return marker is None or marker.evaluate({key: str(value) for key, value in environment.items()})


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_requirements_are_exact_and_agree_with_the_constraints(file: str) -> None:
    pinned = {str(canonicalize_name(pin.name)): _version(pin) for pin in _pins() if pin.marker is None}
    for name, requirement in _requirements(file).items():
        assert requirement.marker is None, f"{name}: a direct requirement holds on every machine"
        assert requirement.url is None
        if pin := pinned.get(name):
            assert _version(requirement) == pin, f"{name} differs from constraints.txt; run make lock"
        else:
            assert any(canonicalize_name(pin.name) == name for pin in _pins()), f"{name} is not locked; run make lock"


def test_every_constraint_is_exact_and_says_nothing_else() -> None:
    for pin in _pins():
        assert _version(pin)
        assert not pin.extras
        assert pin.url is None
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text, "no address of a package index"
    assert "--" not in text
    for python in PYTHONS:
        names = [canonicalize_name(pin.name) for pin in _pins() if _applies(pin.marker, python)]
        assert len(names) == len(set(names)), f"two versions of a package hold on Python {python}"


# ----------------------------------------------------------------------------------------------------- imports
def _imports(file: Path) -> set[str]:
    """Modules that a file imports from elsewhere; those under ``if TYPE_CHECKING`` too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] not in OURS | sys.stdlib_module_names | {"__future__"}}


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, list[str]]:
    """The packages that each module may come from; finding them reads the files of every package."""
    return packages_distributions()


def _distributions(module: str) -> set[str]:
    """Packages that a module may come from; Airflow's parts count as Airflow, its providers by their names."""
    if provider := re.match(r"airflow\.providers\.(\w+)", module):
        return {f"apache-airflow-providers-{provider[1]}"}
    if module.split(".")[0] == "airflow":
        return {"apache-airflow"}
    return {canonicalize_name(name) for name in _installed().get(module.split(".")[0], [])}


@pytest.mark.parametrize("file", FOLDERS)
def test_every_import_is_a_direct_requirement(file: str) -> None:
    direct, missing = set(_requirements(file)), set()
    for folder in FOLDERS[file]:
        for source in sorted((ROOT / folder).rglob("*.py")):
            for module in _imports(source):
                if not _distributions(module) & direct:
                    missing.add(f"{source.relative_to(ROOT)} imports {module}, which {file} does not require")
    assert not missing, "\n".join(sorted(missing))


def test_the_set_up_runs_without_any_package() -> None:
    assert _imports(ROOT / "demo" / "install.py") == set()


# -------------------------------------------------------------------------------------------------- resolution
@pytest.mark.parametrize("python", PYTHONS)
def test_the_constraints_resolve_and_leave_nothing_open(python: str) -> None:
    try:
        done = compile_requirements("--python-version", python, "--constraint", "constraints.txt")
    except subprocess.TimeoutExpired as error:
        pytest.skip(f"the package index does not answer within {error.timeout:.0f} s")
    if done.returncode != 0 and re.search(r"dns error|error sending request|timed out|Failed to fetch", done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    pinned = {canonicalize_name(pin.name): _version(pin) for pin in _pins() if _applies(pin.marker, python)}
    resolved = {canonicalize_name(one.name): _version(one) for one in map(Requirement, done.stdout.split("\n")[:-1])}
    assert {name for name, version in resolved.items() if pinned.get(name) != version} == set()
    assert len(resolved) > 200


def test_the_resolution_can_fail(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("pydantic==2.14.3\npydantic-core==0.0.1\n")
    done = compile_requirements("--offline", requirements=str(tmp_path / "requirements.txt"))
    assert done.returncode != 0


def test_the_installed_packages_fit_together() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
