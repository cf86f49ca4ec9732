"""The floors of docs/architecture.md: what may import what, and who writes the warehouse."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "masking": 1,
    "outcome": 1,
    "sections": 1,
    "maintenance_sections": 1,
    "run_bounds": 1,
    "settings": 1,
    "window": 1,
    "connections": 1,
    "postgres_refusals": 1,
    "web_addresses": 1,
    "warehouse": 2,
    "platform": 3,
    "monitoring": 4,
    "maintenance": 4,
    "incidents": 4,
    "reporting": 4,
    "dag_signals": 5,
    "dagkit": 5,
    "plugins": 5,
    "dags": 5,
}
MAY_IMPORT_AIRFLOW = {"connections", "dagkit", "plugins", "dags"}
WRITE = re.compile(
    r"\b(insert\s+into|update|delete\s+from|copy|merge\s+into|truncate(\s+table)?)\s+(only\s+)?\"?ops\"?\s*\.", re.I
)
FILES = sorted(file for folder in ("include", "plugins", "dags") for file in (ROOT / folder).rglob("*.py"))
SQL_FILES = sorted(file for folder in ("include", "plugins", "dags") for file in (ROOT / folder).rglob("*.sql"))


@dataclass(frozen=True)
class Import:
    """One imported module; ``at_import`` tells whether reading the file imports it (and not only a function's run)."""

    module: str
    at_import: bool


def _room(path: str) -> str:
    """The room of a file: include/settings.py is in settings, include/reporting/users.py in reporting."""
    parts = Path(path).with_suffix("").parts
    return parts[1] if parts[0] == "include" and len(parts) > 1 else parts[0]


def _imports(source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_import = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield Import("." * node.level + (node.module or ""), at_import)
            elif node.module in ("include", "plugins", "dags"):
                yield from (Import(f"{node.module}.{alias.name}", at_import) for alias in node.names)
            elif node.module:
                yield Import(node.module, at_import)


def floor_violations(path: str, source: str) -> list[str]:
    """What a file imports that its floor may not."""
    room, found = _room(path), []
    if room != "__init__" and room not in FLOORS:
        return [f"{path}: the room {room} has no floor; add it to docs/architecture.md and here"]
    for one in _imports(source):
        first, *rest = one.module.split(".")
        if one.module.startswith("."):
            found.append(f"{path} imports {one.module} relatively; write the whole name")
        elif first == "airflow" and room not in MAY_IMPORT_AIRFLOW:
            found.append(f"{path} imports {one.module}: only connections, dagkit, dags/ and plugins/ know Airflow")
        elif first in ("demo", "tests", "benchmarks", "dags") or (first == "plugins" and room != "plugins"):
            found.append(f"{path} imports {one.module}, which the collection does not stand on")
        elif first == "include" and rest:
            target = rest[0]
            below = FLOORS.get(target, 99) < FLOORS.get(room, 0)
            same = (
                target == room
                or (FLOORS.get(target) == 1 and FLOORS.get(room) == 1)
                or (room, target) in {("dags", "dagkit"), ("dagkit", "dag_signals")}
            )
            if not below and not same:
                found.append(f"{path} imports {one.module}, which is not on a floor below {room}")
    return found


def dag_violations(path: str, source: str) -> list[str]:
    """What a DAG file imports beyond the SDK, the providers and our rooms, and what it imports too early."""
    found = []
    for one in _imports(source):
        first = one.module.split(".")[0]
        if first == "airflow" and not re.match(r"airflow\.(sdk|providers)(\.|$)", one.module):
            found.append(f"{path} imports {one.module}; DAGs use airflow.sdk and providers only")
        elif first not in ("airflow", "include") and first not in sys.stdlib_module_names:
            found.append(f"{path} imports {one.module}; logic belongs into include/")
        elif (
            first == "include"
            and one.at_import
            and one.module.split(".")[1] not in ("dagkit", "settings", "window", "outcome")
        ):
            found.append(f"{path} imports {one.module} when it is read; import it inside the task")
    return found


def write_violations(path: str, text: str) -> list[str]:
    """Statements outside include/warehouse that write the warehouse's tables."""
    if path.startswith("include/warehouse/"):
        return []
    if path.endswith(".sql"):
        texts = [re.sub(r"--[^\n]*", "", text)]
    else:
        tree = ast.parse(text)
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        if re.search(r"""Identifier\(\s*["']ops["']""", text):
            texts.append("INSERT INTO ops.")  # a composed name could be written to unseen
    return [f"{path} writes the warehouse: {found[0]}" for text in texts if (found := WRITE.search(text))]


def _all(check: object, files: list[Path]) -> list[str]:
    assert callable(check)
    return [violation for file in files for violation in check(file.relative_to(ROOT).as_posix(), file.read_text())]


def test_rooms_import_only_from_floors_below() -> None:
    assert len(FILES) > 30
    assert _all(floor_violations, FILES) == []


def test_dag_files_only_wire() -> None:
    assert _all(dag_violations, [file for file in FILES if file.is_relative_to(ROOT / "dags")]) == []


def test_only_the_warehouse_room_writes_the_warehouse() -> None:
    assert _all(write_violations, FILES + SQL_FILES) == []


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert [room for room in FLOORS if not re.search(rf"\b{room}\b", text)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("include/reporting/x.py", "from include.incidents import signals"),
        ("include/reporting/x.py", "from include import incidents"),
        ("include/reporting/x.py", "def f():\n    import include.maintenance.tables"),
        ("include/warehouse/x.py", "from include.platform import source"),
        ("include/warehouse/x.py", "from include.dagkit import every"),
        ("include/settings.py", "from include.warehouse import session"),
        ("include/incidents/x.py", "from airflow.sdk import task"),
        ("include/incidents/x.py", "from .spool import drain"),
        ("include/incidents/x.py", "import demo.servers"),
        ("include/fresh/x.py", ""),
    ],
)
def test_a_breach_of_the_floors_is_found(path: str, source: str) -> None:
    assert len(floor_violations(path, source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from airflow.models import DagRun",
        "import pandas",
        "from include.reporting import users",
        "def f():\n    from airflow.utils import db",
    ],
)
def test_a_breach_in_a_dag_file_is_found(source: str) -> None:
    assert len(dag_violations("dags/daily/x.py", source)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("include/reporting/x.py", 'QUERY = "insert into ops.report VALUES (1)"'),
        ("include/reporting/x.py", 'QUERY = f"DELETE FROM ops.report WHERE day = {1}"'),
        ("include/reporting/x.py", 'sql.Identifier("ops", "report")'),
        ("plugins/x.py", 'QUERY = """UPDATE\n ONLY ops.report SET x = 1"""'),
        ("include/reporting/x.sql", "COPY ops.report FROM STDIN"),
        ("include/reporting/x.sql", 'TRUNCATE TABLE "ops".report'),
    ],
)
def test_a_write_outside_the_warehouse_room_is_found(path: str, text: str) -> None:
    assert len(write_violations(path, text)) == 1


def test_reading_and_comments_are_no_writes() -> None:
    assert (
        write_violations("include/reporting/x.sql", "-- an UPDATE ops.report would be wrong\nSELECT * FROM ops.report")
        == []
    )
    assert write_violations("include/warehouse/x.py", 'QUERY = "DELETE FROM ops.report"') == []
