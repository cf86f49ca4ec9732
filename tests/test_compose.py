"""docker-compose.yaml is valid and holds what docs/deploy.md promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from demo.airflow import COMPONENTS, shared_settings
from include.connections import CONNECTIONS
from include.settings import ROOT

FILE = ROOT / "docker-compose.yaml"
TEXT = FILE.read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
AIRFLOW = {name: service for name, service in SERVICES.items() if name not in ("postgres", "redis")}
LASTING = {name: service for name, service in SERVICES.items() if name != "init"}
VARIABLES = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
SECRET = re.compile(r"password|passwd|secret|token|key", re.I)


def _validate(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "check-jsonschema"
    return subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", path], capture_output=True, text=True, check=False
    )


def test_it_follows_the_compose_specification(tmp_path: Path) -> None:
    done = _validate(FILE)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "docker-compose.yaml"
    broken.write_text(TEXT.replace("restart: always", "restart: [always]", 1))
    assert _validate(broken).returncode == 1, "the check can fail"


def test_every_component_is_a_service_of_its_own() -> None:
    assert set(SERVICES) == {
        *("postgres", "redis", "init", "worker", "incident-handler"),
        *COMPONENTS,
    }
    for name in COMPONENTS:
        assert SERVICES[name]["command"][:2] == ["airflow", name]
    assert SERVICES["worker"]["command"] == ["airflow", "celery", "worker"]


@pytest.mark.parametrize("name", LASTING)
def test_services_restart_and_are_checked(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "always"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


def test_init_runs_once_and_everything_waits_for_it() -> None:
    assert SERVICES["init"]["restart"] == "no"
    for name in AIRFLOW.keys() - {"init"}:
        given = dict(SERVICES[name]["depends_on"])
        given.pop("api-server", None)
        assert given == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "init": {"condition": "service_completed_successfully"},
        }


def test_whatever_runs_tasks_is_stopped_before_the_api_server() -> None:
    """Otherwise each deployment ends the tasks that are running, and their watches open incidents."""
    needed = {name: service.get("depends_on", {}).get("api-server") for name, service in SERVICES.items()}
    after_it = {"scheduler", "dag-processor", "triggerer", "worker"}
    assert {name for name, condition in needed.items() if condition} == after_it
    for name in after_it:
        assert needed[name] == {"condition": "service_healthy", "restart": True}
    stopped = re.findall(r"^    docker compose stop (.*)", (ROOT / "docs" / "deploy.md").read_text(), re.M)
    assert [set(line.partition("#")[0].split()) for line in stopped] == [
        {"scheduler", "worker"},
        LASTING.keys() - {"postgres", "redis", "scheduler", "worker"},
    ]


def test_airflow_settings_have_one_source() -> None:
    shared = shared_settings()
    for name, service in AIRFLOW.items():
        assert service["env_file"] == ["config/airflow.env"], name
        assert not shared.keys() & service["environment"].keys(), f"{name} sets again what config/airflow.env sets"
    for key, value in shared.items():
        assert re.fullmatch(r"AIRFLOW__[A-Z_]+__[A-Z0-9_]+", key)
        assert not re.search(r"_(PASSWORD|SECRET|KEY|CONN)$", key), f"{key} belongs into the environment"
        assert "$" not in value


def test_a_task_outlives_a_restart_of_the_api_server_and_not_the_scheduler_s_patience() -> None:
    """Each heartbeat is tried five times, after 1 s and then 1 to 2, 1 to 4 and 1 to 8 s: 9.5 s, give or take 2.2."""
    shared = shared_settings()
    tolerated = 9.5 * int(shared["AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS"])
    assert 90 < tolerated < int(shared["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"])
    assert "away for a minute" in (ROOT / "docs" / "deploy.md").read_text().replace("\n", " ")


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_the_environment_alone(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        for userinfo in re.findall(r"://([^@/\s]*)@", re.sub(r"\$\{[^}]*\}", "${}", str(value))):
            assert userinfo.partition(":")[2] == "${}", f"{key} has a literal password"
        if SECRET.search(key) and key != "AIRFLOW__CORE__AUTH_MANAGER":
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", str(value)), f"{key} must be required from the environment"
    assert "env_file" not in SERVICES[name] or SERVICES[name]["env_file"] == ["config/airflow.env"]


def test_a_missing_secret_ends_the_start_with_its_name() -> None:
    for variable in VARIABLES:
        uses = re.findall(rf"\$\{{{variable}([^}}]*)\}}", TEXT)
        assert len({use[:2] for use in uses}) == 1, f"{variable} is required in one place and not in another"
        if SECRET.search(variable) or variable.endswith("_URL"):
            assert all(use.startswith(":?") for use in uses), variable


def test_logins_and_tokens_are_those_of_production() -> None:
    for service in AIRFLOW.values():
        given = service["environment"]
        assert given["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager")
        assert given["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
        assert given["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://api-server:8080/execution/"
        assert given["AIRFLOW__API_AUTH__JWT_SECRET"].startswith("${AIRFLOW_JWT_SECRET:?")
    assert "ALL_ADMINS" not in TEXT + json.dumps(shared_settings())


def test_no_more_tasks_are_queued_than_a_worker_begins_at_once() -> None:
    """The watches' priority counts where the scheduler chooses; what Celery has queued runs in its order."""
    concurrency = SERVICES["worker"]["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"]
    assert concurrency == "${WORKER_CONCURRENCY:-10}"
    for name in ("scheduler", "init"):
        parallelism = SERVICES[name]["environment"]["AIRFLOW__CORE__PARALLELISM"]
        assert parallelism == f"${{AIRFLOW_PARALLELISM:-{concurrency}}}"


def test_the_watches_find_a_slot_whatever_else_runs() -> None:
    """All other tasks are in pools (tests/dags/test_policy.py)."""
    pools = json.loads((ROOT / "config" / "pools.json").read_text())
    [(_, concurrency)] = set(re.findall(r"\{(WORKER_CONCURRENCY):-(\d+)\}", TEXT))
    watches = 2
    assert sum(pool["slots"] for pool in pools.values()) + watches == int(concurrency)
    said = (ROOT / "docs" / "deploy.md").read_text()
    assert f"with one worker at least {concurrency}, the slots of `config/pools.json` and two" in said


def test_only_the_migrations_hold_the_owners_password() -> None:
    holders = {name for name, service in SERVICES.items() if "WAREHOUSE_OWNER_PASSWORD" in json.dumps(service)}
    assert holders == {"postgres", "init", "worker"}
    assert {name for name, service in SERVICES.items() if "${POSTGRES_PASSWORD" in json.dumps(service)} == {"postgres"}


def test_no_service_holds_what_it_does_not_use() -> None:
    """Whoever gets into the UI, the scheduler or a trigger gets no further with what stands there."""
    held = {
        name: {key.removeprefix("AIRFLOW_CONN_") for key in service["environment"] if key.startswith("AIRFLOW_CONN_")}
        for name, service in AIRFLOW.items()
    }
    del held["worker"]  # the tasks use all of them
    assert held == {
        "init": {"WAREHOUSE", "WAREHOUSE_READER", "WAREHOUSE_OWNER"},
        "api-server": {"WAREHOUSE_READER"},
        "scheduler": set(),
        "triggerer": set(),
        "dag-processor": {"WAREHOUSE"},
        "incident-handler": {"WAREHOUSE"},
    }
    holders = {name for name, service in SERVICES.items() if "${PLATFORM_" in json.dumps(service)}
    assert holders == {"worker"}
    mounted = {
        name: {volume.partition(":")[0] for volume in service.get("volumes", [])} for name, service in AIRFLOW.items()
    }
    for volume in ("archive", "reports"):
        assert {name for name, volumes in mounted.items() if volume in volumes} == {"worker"}
    signals = {name for name, service in AIRFLOW.items() if "OPERATIONS__INCIDENTS__SPOOL" in service["environment"]}
    assert {name for name, volumes in mounted.items() if "spool" in volumes} == signals - {"init"}
    assert SERVICES["api-server"]["volumes"] == ["logs:/opt/airflow/logs:ro"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_gains_rights(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    assert (SERVICES[name].get("cap_drop") == ["ALL"]) == (name in AIRFLOW)


def test_every_connection_of_the_collection_is_given() -> None:
    given = SERVICES["worker"]["environment"]
    assert {f"AIRFLOW_CONN_{name.upper()}" for name in CONNECTIONS} == {
        key for key in given if key.startswith("AIRFLOW_CONN_")
    }


def test_every_variable_is_documented_and_no_other() -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \| .* \| (yes|no: .*) \|$", (ROOT / "docs" / "deploy.md").read_text(), re.M)
    assert {name for name, _ in table} == VARIABLES
    for name, needed in table:
        assert (needed == "yes") == (f"${{{name}:?" in TEXT), name


def test_the_image_is_the_airflow_that_is_tested() -> None:
    required = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert required
    base = re.search(r"^FROM apache/airflow:(\S+)-python3\.12$", (ROOT / "Dockerfile").read_text(), re.M)
    assert base
    assert base[1] == f"slim-{required[1]}", "the full image's providers contradict constraints.txt"


def test_all_that_the_slim_image_brings_is_in_the_lock() -> None:
    locked = {canonicalize_name(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    brought, unseen = {"apache-airflow"}, ["apache-airflow"]
    while unseen:
        for text in requires(unseen.pop()) or []:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if (requirement.marker is None or requirement.marker.evaluate({"extra": ""})) and name not in brought:
                brought.add(name)
                unseen.append(name)
    assert {name for name in brought if "providers" in name} > {"apache-airflow-providers-standard"}
    assert brought - locked == set()


def test_the_image_brings_the_programs_that_drills_and_log_rotation_run() -> None:
    as_root = (ROOT / "Dockerfile").read_text().partition("USER root")[2].partition("USER airflow")[0]
    assert '"postgresql-${POSTGRES_MAJOR}"' in as_root
    assert "logrotate" in as_root.partition("apt-get install")[2].partition("\n")[0].split()
    major = re.search(r"^ARG POSTGRES_MAJOR=(\d+)$", as_root, re.M)
    assert major
    said = (ROOT / "docs" / "deploy.md").read_text()
    assert f"programs of one major version, {major[1]} unless the variable `POSTGRES_MAJOR` says another" in said
    assert f"POSTGRES_MAJOR:-{major[1]}}}" in TEXT


def test_what_the_image_copies_exists() -> None:
    copied = re.findall(r"^COPY (?:--chown=airflow:0 )?(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    names = {name for line in copied for name in line.split()}
    assert {"requirements.txt", "constraints.txt", "config", "deploy", "include", "plugins", "dags"} == names
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == names
    assert all((ROOT / name).exists() for name in names)


@pytest.mark.skipif(os.geteuid() != 0, reason="what belongs to root is made by root")
def test_the_user_of_the_tasks_cannot_change_what_runs() -> None:
    """What the image's last step does is done here to a folder such as Airflow's image brings and COPY fills."""
    text = (ROOT / "Dockerfile").read_text()
    last = re.findall(r"^RUN ((?:.*\\\n)*.*)$", text, re.M)[-1]
    assert text.rpartition("\nUSER ")[2].startswith("airflow\n")
    with TemporaryDirectory() as name:
        home = Path(name)
        for folder in ("config", "deploy", "include", "plugins", "dags"):
            (home / folder).mkdir()
            (home / folder / "code.py").write_text("")
            (home / folder / "code.py").chmod(0o664)  # what a builder's umask may leave: too much, or too little
            (home / folder / "private.py").write_text("")
            (home / folder / "private.py").chmod(0o600)
        for file in ("requirements.txt", "constraints.txt"):
            (home / file).write_text("")
        for path in (home, home / "dags"):
            os.chown(path, 50000, 0)
            path.chmod(0o775)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        subprocess.run(["bash", "-c", last], cwd=home, env=environment, check=True)
        attempts = """
            for folder in config deploy include plugins dags; do
                echo x 2>&- >> $folder/code.py && echo "changed $folder"
                echo x 2>&- > $folder/more.py && echo "added to $folder"
                cat $folder/private.py
                mv $folder $folder.old 2>&- && echo "replaced $folder"
            done
            echo own > airflow.cfg && mv airflow.cfg airflow.new && echo done
        """
        done = subprocess.run(
            ["bash", "-c", attempts], cwd=home, user=50000, group=0, extra_groups=[], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.stdout, "private.py" in done.stderr) == ("done\n", False)
        assert list((home / "include" / "__pycache__").iterdir()), "Python could not keep it later"
