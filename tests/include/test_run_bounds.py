"""Bounds of one run: a run may be more careful than the configuration, and no other run notices."""

from __future__ import annotations

import re
from typing import Any

import pytest

from include import run_bounds
from include.maintenance_sections import Maintenance
from include.outcome import ConfigurationError
from include.settings import load, settings, use_bounds

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def configured(environment: pytest.MonkeyPatch) -> Maintenance:
    """The shipped section with two tables to prune."""
    rule = load().maintenance.prune[0].model_dump_json()
    environment.setenv("OPERATIONS__MAINTENANCE__PRUNE", f"[{rule}, {rule.replace('audit_logs', 'sessions')}]")
    return load().maintenance


def test_every_bound_is_a_key_of_the_configuration(configured: Maintenance) -> None:
    keys = [key for keys in run_bounds.KEYS.values() for key in keys]
    assert len(set(keys)) == len(keys) == 39
    for key in keys:
        place, name = key.split(".")
        section = getattr(configured, place)
        value = getattr(section[0] if isinstance(section, list) else section, name)
        assert run_bounds.applied(configured, {key: value}) == configured, "its own value changes nothing"


def test_a_bound_of_pruning_goes_for_every_table(configured: Maintenance) -> None:
    bounds = {"prune.batch_rows": 1000, "prune.keep_days": 91, "cache.pause_milliseconds": 5}
    maintenance = run_bounds.applied(configured, bounds)
    assert [(rule.table, rule.batch_rows, rule.keep_days) for rule in maintenance.prune] == [
        ("public.audit_logs", 1000, 91),
        ("public.sessions", 1000, 91),
    ]
    assert maintenance.cache == configured.cache.model_copy(update={"pause_milliseconds": 5.0})
    assert maintenance.logs == configured.logs
    assert configured.prune[0].batch_rows == 15_000, "the configuration itself stays"


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ({"prune.table": "public.users"}, "the run's bounds name prune.table, which a run cannot have of its own; "),
        ({"batch_rows": 1}, "the run's bounds name batch_rows, which a run cannot have of its own; "),
        ({"backups.jobs": 1}, "the run's bounds name backups.jobs, which a run cannot have of its own; "),
        (
            {"prune.batch_rows": 0},
            "the run's bound prune.batch_rows is 0: Input should be greater than or equal to 1; ",
        ),
        ({"cache.call_milliseconds": "x"}, "the run's bound cache.call_milliseconds is 'x': Input should be a valid "),
        ({"prune.keep_days": 89}, "the run's bound prune.keep_days is 89, lower than the configured 90; "),
        (
            {"logs.keep_files": 3},
            "the run's bound logs.keep_files is 3, lower than the configured absence of a limit; ",
        ),
        (
            {"reindex.without_approval_up_to_bytes": 104857601},
            "the run's bound reindex.without_approval_up_to_bytes is 104857601, higher than the configured 104857600; ",
        ),
    ],
)
def test_a_wrong_bound_is_one_sentence(configured: Maintenance, bounds: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        run_bounds.applied(configured, bounds)


@pytest.mark.parametrize("dag_id", list(run_bounds.KEYS))
def test_the_schema_refuses_what_the_configuration_would(configured: Maintenance, dag_id: str) -> None:
    from airflow.sdk import Param
    from airflow.sdk.exceptions import ParamValidationError

    schemas = run_bounds.schemas(dag_id, configured)
    assert list(schemas) == list(run_bounds.KEYS[dag_id])
    for key, schema in schemas.items():
        for value in (None, "x", -1, 0, 1, 7, 8, 50.5, 90, 91, 400, 10**6, 104857600, 10**12):
            try:
                run_bounds.applied(configured, {key: value})
            except ConfigurationError:
                with pytest.raises(ParamValidationError):
                    Param({key: value}, type="object", properties={key: schema}).resolve()
            else:
                assert Param({key: value}, type="object", properties={key: schema}).resolve() == {key: value}


def test_without_a_table_to_prune_its_bounds_are_anything(configured: Maintenance) -> None:
    none = configured.model_copy(update={"prune": []})
    assert run_bounds.schemas("daily_maintenance", none)["prune.batch_rows"] == {}
    assert run_bounds.applied(none, {"prune.batch_rows": 5}) == none


def test_what_is_more_careful_is_taken(configured: Maintenance, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__LOGS__KEEP_FILES", "5")
    bounds = {"logs.keep_files": None, "logs.keep_days": 8, "reindex.without_approval_up_to_bytes": 0}
    maintenance = run_bounds.applied(load().maintenance, bounds)
    assert (maintenance.logs.keep_files, maintenance.logs.keep_days) == (None, 8)
    assert maintenance.reindex.without_approval_up_to_bytes == 0


def test_the_next_run_of_a_process_has_bounds_of_its_own() -> None:
    configured = settings()
    use_bounds({"prune.batch_rows": 7})
    assert settings().maintenance.prune[0].batch_rows == 7
    with pytest.raises(ConfigurationError, match="which a run cannot have"):
        use_bounds({"prune.rows": 7})
    assert settings() == configured
    use_bounds({"vacuum.buffer_megabytes": 3})
    assert settings().maintenance.prune == configured.maintenance.prune
    use_bounds({})
    assert settings() == configured
