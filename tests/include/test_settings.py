"""A malformed configuration is one sentence that names the key."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.monitoring import watch
from include.outcome import ConfigurationError
from include.sections import Watch
from include.settings import DEFAULT_FILE, ROOT, load, settings


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a changed copy of the configuration in force: ``configure("alerts.error_rate", 2)``."""

    def change(path: str, value: object) -> None:
        content = yaml.safe_load(DEFAULT_FILE.read_text())
        *sections, key = path.split(".")
        place: Any = content
        for section in sections:
            place = place[int(section) if section.isdigit() else section]
        if value is ...:
            del place[key]
        else:
            place[key] = value
        file = tmp_path / "operations.yaml"
        file.write_text(yaml.safe_dump(content))
        monkeypatch.setenv("OPERATIONS_CONFIG", str(file))

    return change


def test_the_guide_is_the_default() -> None:
    found = load()
    assert (found.targets.uptime, found.targets.response_seconds, found.targets.error_rate) == (0.999, 2.0, 0.01)
    assert (found.alerts.error_rate, found.alerts.response_seconds) == (0.05, 3.0)
    assert found.support.response_hours.model_dump() == {"high": 2, "medium": 24, "low": 48}
    assert found.maintenance.prune[0].keep_days == 90
    assert found.maintenance.logs.keep_days == 7
    assert settings() is settings()


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("platform.timezone", "Mars/Olympus", "platform.timezone"),
        ("platform.timezone", "/etc/passwd", "platform.timezone"),
        ("platform.components", ["frontend", "mainframe"], "platform.components.1"),
        ("platform.components", [], "platform.components"),
        ("platform.user_facing_components", ["printer"], "platform"),
        ("targets.uptime", 99.9, "targets.uptime"),
        ("alerts.error_rate", "five percent", "alerts.error_rate"),
        ("alerts.error_rate", ..., "alerts.error_rate"),
        ("alerts.eror_rate", 0.05, "alerts.eror_rate"),
        ("watch.probe_timeout_seconds", 0, "watch.probe_timeout_seconds"),
        ("watch.probe_timeout_seconds", 16.6, "watch.probe_timeout_seconds"),
        ("watch.confirm_failure_after_seconds", 25.1, "watch.confirm_failure_after_seconds"),
        ("reports.late_rows_days", -1, "reports.late_rows_days"),
        ("maintenance.prune.0.keep_days", 0, "maintenance.prune.0.keep_days"),
        ("maintenance.prune.0.table", "audit_logs; DROP TABLE x", "maintenance.prune.0.table"),
        ("maintenance.airflow.most_minutes", 41, "maintenance.airflow.most_minutes"),
        ("schedules.platform_watch", "every minute", "schedules.platform_watch"),
        ("schedules.platform_watch", "61 * * * *", "schedules.platform_watch"),
        ("schedules.incident_watch", "a b c d e", "schedules.incident_watch"),
        ("schedules.monthly_maintenance", "0 0 31 2 *", "schedules.monthly_maintenance"),
        ("schedules.weekly_maintenance", "0 0 0 * * *", "schedules.weekly_maintenance"),
        ("schedules.weekly_maintenance", "0 0 * * 1-", "schedules.weekly_maintenance"),
        ("schedules.daily_metrics", "20 0 * * *", "schedules.daily_metrics"),
        ("schedules.daily_metrics", "0 0 * * 1", "schedules.daily_metrics"),
        ("schedules.daily_metrics", "0 0 1 * *", "schedules.daily_metrics"),
        ("schedules", None, "schedules"),
        ("schedules", ["0 0 * * *"], "schedules"),
        ("runs.retries", 11, "runs.retries"),
        ("runs.retry_delay_seconds", math.inf, "runs.retry_delay_seconds"),
        ("runs.retry_delay_seconds", math.nan, "runs.retry_delay_seconds"),
        ("runs.retry_delay_seconds", 1e15, "runs.retry_delay_seconds"),
        ("targets.uptime", math.nan, "targets.uptime"),
        ("incidents.spool", None, "incidents.spool"),
        ("reports", ..., "reports"),
        ("surprise", {}, "surprise"),
    ],
)
def test_a_bad_value_is_one_sentence_naming_its_key(configure: Any, path: str, value: object, key: str) -> None:
    configure(path, value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    sentence = str(caught.value)
    assert re.search(rf"\b{re.escape(key)}\b", sentence), sentence
    assert "\n" not in sentence
    assert re.search(r"correct|add it|remove it", sentence), "it says what to do"


def test_the_longest_observation_fits_into_the_task_of_the_watch(configure: Any) -> None:
    source = (ROOT / "dags" / "watch" / "platform_watch.py").read_text()
    seconds = re.search(r"task_timeout=timedelta\(seconds=(\d+)\)", source)
    assert seconds is not None
    assert Watch.longest_attempts_seconds + watch._GRACE_SECONDS <= int(seconds[1]) - 10
    configure("watch.probe_timeout_seconds", 16.5)
    assert load().watch.probe_timeout_seconds == 16.5


def _durations() -> list[str]:
    """Return the path of every number of the configuration whose name says that it is a duration."""
    waiting, found = [("", yaml.safe_load(DEFAULT_FILE.read_text()))], []
    while waiting:
        path, content = waiting.pop()
        pairs = (
            content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
        )
        waiting += [(f"{path}{key}.", value) for key, value in pairs]
        unit = re.search(r"_(milliseconds|seconds|minutes|hours|days|weeks)\.$|^support\.response_hours\.", path)
        if unit and isinstance(content, int | float):
            found.append(path.removesuffix("."))
    return sorted(found)


ONLY_COMPARED = {
    "maintenance.monthly.prepared_transaction_minutes",
    "maintenance.monthly.wraparound_critical_days",
    "maintenance.monthly.wraparound_warning_days",
    "maintenance.prune.0.largest_replica_lag_seconds",
    "maintenance.query_review.mean_milliseconds",
    "maintenance.query_review.regression_minimum_milliseconds",
}


@pytest.mark.parametrize("path", _durations())
def test_no_duration_is_beyond_what_python_can_add_to_a_time(configure: Any, path: str) -> None:
    configure(path, math.inf)
    with pytest.raises(ConfigurationError, match=re.escape(path)):
        load()
    configure(path, 10**9)
    if path in ONLY_COMPARED:
        load()
    else:
        with pytest.raises(ConfigurationError, match=re.escape(path)):
            load()


def test_a_file_that_is_missing_or_no_yaml_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATIONS_CONFIG", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml does not exist; set OPERATIONS_CONFIG"):
        load()
    (tmp_path / "nowhere.yaml").write_text("platform:\n  name: [unclosed\n")
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml is not valid YAML at line \d"):
        load()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"- platform\n- targets\n", "operations.yaml is not a list of sections by their names"),
        (b"just a text", "operations.yaml is not a list of sections by their names"),
        (b"5: {}\n", "operations.yaml is not a list of sections by their names"),
        ("# größer\nplatform: {name: Café}\n".encode("latin-1"), "operations.yaml is not UTF-8 at line 1; save it"),
        (b"platform:\n  name: a\n  name: b\n", "the key platform.name is there twice, at lines 2 and 3; remove one"),
        (b"alerts: {}\nplatform: {}\nalerts: {}\n", "the key alerts is there twice, at lines 1 and 3; remove one"),
        (b"m:\n  - a: 1\n  - b: 1\n    'b': 2\n", "the key m.1.b is there twice, at lines 3 and 4; remove one"),
        (b"platform: {name: 2026-02-30}\n", "operations.yaml holds a value that cannot be read (day"),
        (b"a: *nowhere\n", "operations.yaml is not valid YAML at line 1"),
        (b"a: 1\n---\nb: 1\n", "operations.yaml is not valid YAML at line 2"),
        (b"a: \x00\n", "operations.yaml is not valid YAML"),
        (b"", "operations.yaml: the key platform is missing"),
    ],
)
def test_a_file_of_another_form_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, sentence: str
) -> None:
    file = tmp_path / "operations.yaml"
    file.write_bytes(content)
    monkeypatch.setenv("OPERATIONS_CONFIG", str(file))
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_that_a_section_takes_over_from_another_are_no_twins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DEFAULT_FILE.read_text().replace("targets:", "targets: &shared", 1)
    file = tmp_path / "operations.yaml"
    file.write_text(text.replace("alerts: ", "alerts:\n  <<: *shared\n  uptime: 1\n#", 1))
    monkeypatch.setenv("OPERATIONS_CONFIG", str(file))
    with pytest.raises(ConfigurationError, match=r"alerts\.uptime is not known"):
        load()


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("OPERATIONS__PLATFORM__COMPONENTS", "frontend,api", "platform.components"),
        ("OPERATIONS__PLATFORM__COMPONENTS", "", "platform.components"),
        ("OPERATIONS__PLATFORM", "frontend", "platform"),
        ("OPERATIONS__BACKUPS__POSTGRES_BINARIES", "{15: /usr}", "backups.postgres_binaries"),
    ],
)
def test_a_variable_that_is_no_json_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, key: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=rf"operations\.yaml: {key} is '.*\(or in {variable}, as JSON\)$"):
        load()


@pytest.mark.parametrize(
    "variable",
    [
        "OPERATIONS__WATCHES__PROBE_TIMEOUT_SECONDS",
        "OPERATIONS__WATCH_PROBE_TIMEOUT_SECONDS",
        "operations__Watches__PROBE_TIMEOUT_SECONDS",
        "OPERATIONS__",
    ],
)
def test_a_variable_of_no_section_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "3")
    with pytest.raises(ConfigurationError) as caught:
        load()
    sentence = str(caught.value)
    assert sentence.startswith(f"the environment variable {variable} names no section of the configuration; remove it")
    assert "platform, targets, alerts, watch, traffic" in sentence
    assert "\n" not in sentence


def test_other_variables_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATIONS_CONFIG", str(DEFAULT_FILE))
    monkeypatch.setenv("OPERATIONS_WATCHES__PROBE_TIMEOUT_SECONDS", "3")
    monkeypatch.setenv("operations__watch__probe_timeout_seconds", "4")
    assert load().watch.probe_timeout_seconds == 4


@pytest.mark.parametrize("cron", ["*/5 9-17 * * mon-fri", "0 5 L * *", "30 6 1,15 * *", "0 0 29 2 *"])
def test_what_airflow_takes_for_a_schedule_is_taken(monkeypatch: pytest.MonkeyPatch, cron: str) -> None:
    monkeypatch.setenv("OPERATIONS__SCHEDULES__MONTHLY_MAINTENANCE", cron)
    assert load().schedules.monthly_maintenance == cron


def test_the_environment_wins_over_the_file_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATIONS__WATCH__PROBE_TIMEOUT_SECONDS", "3")
    monkeypatch.setenv("OPERATIONS__ALERTS__ERROR_RATE", "nonsense")
    with pytest.raises(ConfigurationError, match="OPERATIONS__ALERTS__ERROR_RATE"):
        load()
    monkeypatch.setenv("OPERATIONS__ALERTS__ERROR_RATE", "0.02")
    found = load()
    assert (found.watch.probe_timeout_seconds, found.watch.observation_holds_seconds) == (3, 150)
    assert (found.alerts.error_rate, found.alerts.response_seconds) == (0.02, 3.0)


def test_a_relative_spool_lies_in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPERATIONS__INCIDENTS__SPOOL", raising=False)
    assert load().incidents.spool == ROOT / ".local" / "spool" / "signals.jsonl"
    monkeypatch.setenv("OPERATIONS__INCIDENTS__SPOOL", "/var/lib/operations/spool/signals.jsonl")
    assert load().incidents.spool == Path("/var/lib/operations/spool/signals.jsonl")
