"""The harness tells what it measured and never more than that; the measured code gives the right figures."""

import json
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks import __main__ as harness
from benchmarks import access_log_lines, access_logs, dag_import, log_rotation, worker
from benchmarks.figures import CommandFailedError, Cost, Figure, cost_of, not_measured
from tests.include.reporting.traffic_recount import recount


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Callable[[], list[Figure]]]:
    """Quick figures in the place of the real ones; bench.json goes to the test's own folder."""

    def broken() -> list[Figure]:
        raise RuntimeError("the server\nis away")

    quick: dict[str, Callable[[], list[Figure]]] = {
        "good": lambda: [Figure("good", "1 s", "30 s", "30.0", "at least 25", True)],
        "bad": lambda: [Figure("bad", "1 s", "2 s", "2.0", "at least 25", False)],
        "broken": broken,
    }
    monkeypatch.setattr(harness, "FIGURES", quick)
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    return quick


def test_a_line_per_figure_and_the_same_as_json(
    figures: dict[str, Callable[[], list[Figure]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness.main([]) == 0
    heading, good, bad, broken = capsys.readouterr().out.splitlines()
    assert heading.split() == ["figure", "ours", "the", "peer's", "ratio", "goal", "holds", "or", "not"]
    assert good.split() == ["good", "1", "s", "30", "s", "30.0", "at", "least", "25", "holds"]
    assert bad.endswith("does not hold")
    assert broken.endswith("not measured: RuntimeError: the server is away")
    told = json.loads((tmp_path / ".local" / "bench.json").read_text())
    assert [(one["name"], one["holds"]) for one in told] == [("good", True), ("bad", False), ("broken", None)]


def test_one_figure_by_its_name(
    figures: dict[str, Callable[[], list[Figure]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness.main(["bad"]) == 0
    assert "good" not in capsys.readouterr().out
    assert len(json.loads((tmp_path / ".local" / "bench.json").read_text())) == 1


def test_unknown_figure_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness.main(["nonsense"]) == 2
    said = capsys.readouterr().err
    assert said == f"there is no figure nonsense; there are {', '.join(harness.FIGURES)}\n"
    assert "log_rotation" in said


def test_what_is_not_measured_never_holds() -> None:
    assert not_measured("a", "b", "why").verdict == "not measured: why"
    assert not_measured("a", "b", "why").holds is None
    assert Figure("a", "1 s", "2 s", "2.0", "", None).verdict == "for comparison"


def test_time_and_memory_are_those_of_the_measured_process() -> None:
    cost = cost_of([sys.executable, "-c", "import time; b = bytearray(150 << 20); time.sleep(0.3)"])
    assert 0.3 <= cost.seconds < 20
    assert 150 << 20 <= cost.memory < 400 << 20


def test_command_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(CommandFailedError, match=r"ended with 1: ValueError: no such thing"):
        cost_of([sys.executable, "-c", "raise ValueError('no such thing')"])


def test_command_that_takes_too_long_is_stopped_and_not_called_finished() -> None:
    cost = cost_of([sys.executable, "-c", "import time; time.sleep(60)"], most_seconds=1)
    assert not cost.finished
    assert 1 <= cost.seconds < 20


def test_speed_is_that_of_the_peer_over_ours() -> None:
    figure = access_logs._speed("x", "goal", 1_000_000, 0.5, Cost(13.0, 80 << 20))
    assert (figure.ours, figure.peers, figure.ratio) == ("0.50 s, 2000 k lines/s", "13.00 s, 80 MiB", "26.0")
    assert figure.holds


def test_generated_log_is_repeatable_its_aggregation_right_and_a_missing_peer_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    log = tmp_path / "logs" / "access.log"
    log.parent.mkdir()
    access_log_lines.write(5000, log)
    access_log_lines.write(5000, tmp_path / "again.log")
    assert log.read_bytes() == (tmp_path / "again.log").read_bytes()
    task, new, peer = access_logs._in_turns(1, log, tmp_path)
    assert task > 0
    assert new.seconds > 0
    figure = access_logs._speed("x", "goal", 100, task, peer)
    assert figure.verdict == "not measured: goaccess is not installed (apt-get install goaccess)"
    assert (tmp_path / "task.json").read_bytes() == (tmp_path / "new.json").read_bytes()
    told = json.loads((tmp_path / "new.json").read_text())
    expected = recount([log], access_log_lines.DAY, "UTC")["daily_traffic"]
    columns, row = told["daily_traffic"]
    found = dict(zip(columns, row, strict=True))
    told_figures = [found[name] for name in ("requests", "errors", "client_errors", "lines_read", "lines_broken")]
    assert told_figures == [*expected[:3], 5000, 0]
    assert Decimal(found["response_seconds_sum"]) == expected[3]


def test_import_time_of_a_dag_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dag_import, "TIMES", 1)
    (tmp_path / "quick.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    quick = dag_import._figure(tmp_path / "quick.py", str(tmp_path))
    assert quick.holds is not None
    assert float(quick.ours.split()[0]) < 5
    broken = dag_import._figure(tmp_path / "broken.py", str(tmp_path))
    assert broken.verdict == "not measured: ModuleNotFoundError: No module named 'nothing_of_that_name'"


def test_rotation_is_measured_on_the_same_log_and_told_when_the_peer_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    figures = log_rotation._side_by_side(tmp_path / "made.log", tmp_path / "logs")
    assert [figure.name for figure in figures] == ["log_rotation 1 GB", "log_rotation 1 GB, bytes after"]
    for figure in figures:
        assert figure.verdict == "not measured: logrotate is not installed (apt-get install logrotate)"
    (tmp_path / "logs" / "access.log").write_text("not rotated\n")
    with pytest.raises(CommandFailedError, match=r"did not become one .gz file but \['access.log'\]"):
        log_rotation._only(tmp_path / "logs", ".gz")


def test_a_task_has_a_process_of_its_own(tmp_path: Path) -> None:
    told = tmp_path / "told"
    assert worker.seconds_of_a_task(lambda: told.write_text(f"{os.getppid()}")) > 0
    assert told.read_text() == f"{os.getpid()}"
    with pytest.raises(RuntimeError, match="the forked process ended with 1"):
        worker.seconds_of_a_task(lambda: told.rename(tmp_path / "no folder" / "told"))
