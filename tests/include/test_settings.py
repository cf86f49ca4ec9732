"""A malformed configuration is one sentence that names the key."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.outcome import ConfigurationError
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
        ("maintenance.prune.0.keep_days", 0, "maintenance.prune.0.keep_days"),
        ("maintenance.prune.0.table", "audit_logs; DROP TABLE x", "maintenance.prune.0.table"),
        ("maintenance.airflow.most_minutes", 41, "maintenance.airflow.most_minutes"),
        ("schedules.platform_watch", "every minute", "schedules.platform_watch"),
        ("schedules.daily_metrics", "20 0 * * *", "schedules.daily_metrics"),
        ("runs.retries", 11, "runs.retries"),
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


def test_a_file_that_is_missing_or_no_yaml_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATIONS_CONFIG", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml does not exist; set OPERATIONS_CONFIG"):
        load()
    (tmp_path / "nowhere.yaml").write_text("platform:\n  name: [unclosed\n")
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml is not valid YAML at line \d"):
        load()


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
