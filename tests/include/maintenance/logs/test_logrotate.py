"""The real logrotate rotates, and what it did is proven on the disk."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance.logs import log_rotation, logrotate
from include.outcome import ConfigurationError, MaintenanceFailed
from include.settings import settings
from include.warehouse import legal_holds
from tests.include.maintenance.logs.log_files_made import NOW, access, acts, all_lines, known, names, old, text_of

PROGRAM = shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin")
needs_logrotate = pytest.mark.skipif(PROGRAM is None, reason="logrotate is not installed (apt-get install logrotate)")

RULES = "daily\nrotate 30\ndateext\ndateyesterday\nmissingok\nnotifempty\n"


@pytest.fixture
def logs(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    environment.setenv("OPERATIONS__MAINTENANCE__LOGS__LOGROTATE_CONFIGURATION", str(tmp_path / "escrow-app"))
    settings.cache_clear()
    return tmp_path / "platform_logs"


def configure(logs: Path, rules: str, *, seen: bool = True) -> None:
    """Write a configuration of access.log; it was ``seen`` and last rotated long ago."""
    path = logs.parent / "escrow-app"
    path.write_text(f"{logs}/access.log {{\n{rules}}}\n")
    path.chmod(0o644)
    if seen:
        state = logs / logrotate.STATE
        state.write_text(f'logrotate state -- version 2\n"{logs}/access.log" 2026-1-1-1:0:0\n')
        state.chmod(0o640)


def visible(logs: Path) -> list[str]:
    return [name for name in names(logs) if not name.startswith(".")]


@needs_logrotate
def test_a_rotation_is_proven_by_inode_and_lines(logs: Path, warehouse: psycopg.Connection) -> None:
    configure(logs, f"{RULES}compress\ndelaycompress\n")
    text = access(*["03/Oct/2026:10:00:00"] * 5)
    (logs / "access.log").write_text(text)
    old(logs / "access.log-20261001", access("01/Oct/2026:10:00:00"), 2)
    inode = (logs / "access.log").stat().st_ino
    log_rotation.rotate("dry", True, NOW)
    assert visible(logs) == ["access.log", "access.log-20261001"]
    log_rotation.rotate("r1", False, NOW)
    [live] = [name for name in visible(logs) if name not in ("access.log-20261001.gz",)]
    assert (logs / live).stat().st_ino == inode
    assert (logs / live).read_text() == text
    rows = warehouse.execute(
        "SELECT state, plan, proof FROM ops.maintenance_action WHERE resource = 'logrotate' ORDER BY run_id"
    ).fetchall()
    (planned, plan, _), (state, _, proof) = rows
    assert (planned, plan["rotates"], state) == ("planned", [str(logs / "access.log")], "proven")
    assert (proof["rotated"], proof["lines_before"]) == ({"access.log": live}, 5)
    assert "access.log-20261001.gz" in (logs / "SHA256SUMS").read_text()


@needs_logrotate
def test_its_first_sight_rotates_nothing_and_says_so(logs: Path, warehouse: psycopg.Connection) -> None:
    configure(logs, RULES, seen=False)
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, NOW)
    assert visible(logs) == ["access.log"]
    state, reason, *_ = acts(warehouse)["rotate_logs", "logrotate"]
    assert state == "proven"
    assert reason.startswith("none of its 1 logs needs rotating; it sees 1 of them for the first time")


@needs_logrotate
@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        (f"{RULES}copytruncate\n", ConfigurationError, "copytruncate for access.log, which loses the lines"),
        (f"{RULES}copy\n", MaintenanceFailed, "did not rotate access.log: it is still inode"),
        (f"{RULES}compress\ncompresscmd /bin/false\n", MaintenanceFailed, "failed.*no line was lost"),
        ("nonsense\n", ConfigurationError, "logrotate refuses escrow-app"),
    ],
)
def test_what_it_must_not_do_or_did_not_do(
    logs: Path, warehouse: psycopg.Connection, rules: str, error: type[Exception], message: str
) -> None:
    configure(logs, rules)
    (logs / "access.log").write_text("one\n")
    with pytest.raises(error, match=message):
        log_rotation.rotate("r1", False, NOW)
    assert acts(warehouse)["rotate_logs", "logrotate"][0] == "failed"
    assert "one" in all_lines(logs)


@needs_logrotate
def test_it_may_not_delete_what_must_stay(logs: Path, warehouse: psycopg.Connection) -> None:
    configure(logs, RULES.replace("30", "1"))
    for day in ("01", "02"):
        old(logs / f"access.log-202610{day}", access(f"{day}/Oct/2026:10:00:00"), 2)
    (logs / "access.log").write_text(access("03/Oct/2026:10:00:00"))
    before = visible(logs)
    with pytest.raises(MaintenanceFailed, match="would delete access.log-20261001, which must be kept: day 2026-10-01"):
        log_rotation.rotate("r1", False, NOW)
    assert visible(logs) == before, "nothing was rotated either"
    known(warehouse, "2026-10-01", "2026-10-02")
    hold = legal_holds.place({"source_table": "platform_logs"}, "case 7", "counsel")
    with pytest.raises(MaintenanceFailed, match="legal hold"):
        log_rotation.rotate("r1", False, NOW)
    legal_holds.release(hold.legal_hold_id, "counsel")
    log_rotation.rotate("r1", False, NOW)
    assert len(visible(logs)) == 1
    proof = acts(warehouse)["rotate_logs", "logrotate"][3]
    assert sorted(proof["removed"]) == ["access.log-20261001", "access.log-20261002"]


@needs_logrotate
def test_a_hold_that_is_placed_while_all_files_are_read_counts(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    configure(logs, RULES.replace("30", "1"))
    known(warehouse, "2026-10-01", "2026-10-02")
    for day in ("01", "02"):
        old(logs / f"access.log-202610{day}", access(f"{day}/Oct/2026:10:00:00"), 2)
    (logs / "access.log").write_text(access("03/Oct/2026:10:00:00"))
    before, plan = visible(logs), logrotate._plan

    def meanwhile(*arguments: Any) -> dict[str, Any]:
        legal_holds.place({"source_table": "access_logs"}, "case 9", "counsel")
        return plan(*arguments)

    environment.setattr(logrotate, "_plan", meanwhile)
    with pytest.raises(MaintenanceFailed, match="would delete access.log-20261001, .* legal hold .* Nothing was rotat"):
        log_rotation.rotate("r1", False, NOW)
    assert visible(logs) == before


@needs_logrotate
def test_it_may_not_delete_what_cannot_be_read(logs: Path, warehouse: psycopg.Connection) -> None:
    """None of it was counted, so no day can tell that it may go."""
    configure(logs, RULES.replace("30", "1"))
    for day in ("01", "02"):
        old(logs / f"access.log-202610{day}", access(f"{day}/Oct/2026:10:00:00").replace(" 0.001", ""), 2)
    (logs / "access.log").write_text(access("03/Oct/2026:10:00:00"))
    with pytest.raises(
        MaintenanceFailed, match="access.log-20261001, which must be kept: no line of it carries a time"
    ):
        log_rotation.rotate("r1", False, NOW)


@needs_logrotate
@pytest.mark.parametrize(
    ("rules", "first", "second"),
    [
        ("daily\nrotate 2\n", "access.log.2", "access.log.1"),
        ("daily\nrotate 2\ncompress\n", "access.log.2.gz", "access.log.1.gz"),
        ("daily\nrotate 2\nstart 0\n", "access.log.1", "access.log.0"),
        ("daily\nrotate 2\nolddir {logs}/old\n", "old/access.log.2", "old/access.log.1"),
        ("daily\nrotate 2\nolddir old\n", "old/access.log.2", "old/access.log.1"),
        (
            "daily\nrotate 2\ndateext\ndateformat -%Y%m%d-%s\n",
            "access.log-20261001-1790000000",
            "access.log-20261002-1790086400",
        ),
    ],
)
def test_names_of_any_kind_are_kept_and_removed(
    logs: Path, warehouse: psycopg.Connection, rules: str, first: str, second: str
) -> None:
    """Two old files and one that is new: the first of the old ones is the third, so ``rotate 2`` removes it."""
    (logs / "old").mkdir()
    configure(logs, rules.format(logs=logs))
    texts = {day: access(f"{day}/Oct/2026:10:00:00") for day in ("01", "02", "03")}
    old(logs / first, texts["01"], 2)
    old(logs / second, texts["02"], 1)
    (logs / "access.log").write_text(texts["03"])
    with pytest.raises(MaintenanceFailed, match=f"would delete {Path(first).name}, which must be kept: day 2026-10-01"):
        log_rotation.rotate("r1", False, NOW)
    assert text_of(logs / "access.log") == texts["03"], "nothing was rotated either"
    known(warehouse, "2026-10-01")
    hold = legal_holds.place({"source_table": "access_logs"}, "case 7", "counsel")
    with pytest.raises(MaintenanceFailed, match="legal hold"):
        log_rotation.rotate("r1", False, NOW)
    assert text_of(logs / first) == texts["01"]
    legal_holds.release(hold.legal_hold_id, "counsel")
    log_rotation.rotate("r1", False, NOW)
    left = [text_of(path) for path in logs.rglob("access.log?*")]
    assert sorted(left) == [texts["02"], texts["03"]]
    state, _, plan, proof = acts(warehouse)["rotate_logs", "logrotate"]
    assert (state, plan["removes"], proof["removed"]) == ("proven", [str(logs / first)], [Path(first).name])
    assert (proof["files_before"], proof["files_after"]) == (3, 2)


@needs_logrotate
def test_a_hold_on_all_logs_keeps_those_of_other_programs_too(logs: Path, warehouse: psycopg.Connection) -> None:
    configure(logs, "daily\nrotate 7\n")
    for path in (logs.parent / "escrow-app", logs / logrotate.STATE):
        path.write_text(path.read_text().replace("access.log", "payments.log"))
    (logs / "payments.log").write_text("paid\n")
    held = old(logs / "payments.log.7", "evidence\n", 40)
    times = {"time_from": NOW - timedelta(days=3), "time_until": NOW}
    hold = legal_holds.place({"source_table": "platform_logs", **times}, "case 7", "counsel")
    reason = rf"kept: legal hold {hold.legal_hold_id} \(case 7\)"
    with pytest.raises(
        MaintenanceFailed, match=f"would delete payments.log.7, which must be {reason}.*rotate or maxage"
    ):
        log_rotation.rotate("r1", False, NOW)
    assert (held.read_text(), visible(logs)) == ("evidence\n", ["payments.log", "payments.log.7"])
    legal_holds.release(hold.legal_hold_id, "counsel")
    legal_holds.place({"source_table": "access_logs"}, "case 8", "counsel")
    log_rotation.rotate("r2", False, NOW)
    assert visible(logs) == ["payments.log.1"]


@needs_logrotate
def test_a_number_that_is_not_taken_yet_removes_nothing(logs: Path, warehouse: psycopg.Connection) -> None:
    configure(logs, "daily\nrotate 2\n")
    (logs / "access.log").write_text(access("03/Oct/2026:10:00:00"))
    old(logs / "access.log.1", access("02/Oct/2026:10:00:00"), 1)
    log_rotation.rotate("r1", False, NOW)
    assert visible(logs) == ["access.log.1", "access.log.2"]
    state, _, plan, proof = acts(warehouse)["rotate_logs", "logrotate"]
    assert (state, plan["removes"], proof["removed"]) == ("proven", [], [])


# --------------------------------------------------------------------- names that end with the log's own extension
_BEFORE_EXTENSION = [
    (f"{RULES}extension .log\n", "access-????????.log"),
    (f"{RULES}extension .log\ncompress\n", "access-????????.log.gz"),
    (f"{RULES}extension .log\ndateformat _week%V\n", "access_week??.log"),
    (f"{RULES}extension .log\ndateformat _week%V\ncompress\n", "access_week??.log.gz"),
    ("daily\nrotate 3\nextension .log\n", "access.1.log"),
    (f"{RULES}extension .log\nolddir {{logs}}/old\n", "old/access-????????.log"),
]


@needs_logrotate
@pytest.mark.parametrize(("rules", "name"), _BEFORE_EXTENSION)
def test_a_name_that_ends_with_the_extension_is_found_again(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, rules: str, name: str
) -> None:
    environment.setenv("OPERATIONS__TRAFFIC__ACCESS_LOGS", "access*.log*")
    settings.cache_clear()
    (logs / "old").mkdir()
    configure(logs, rules.format(logs=logs))
    text = access("03/Oct/2026:10:00:00")
    (logs / "access.log").write_text(text)
    other = old(logs / "access-by-hand.log", text, 3)
    log_rotation.rotate("r1", False, NOW)
    [rotated] = logs.glob(name)
    assert text_of(rotated) == text
    assert not list(logs.glob("*.saved-*")), "nothing was lost"
    state, _, plan, proof = acts(warehouse)["rotate_logs", "logrotate"]
    assert (state, proof["rotated"], proof["files_after"]) == ("proven", {"access.log": rotated.name}, 1)
    assert str(other) not in plan["files"], "it is none that logrotate made"


@needs_logrotate
@pytest.mark.parametrize(("rules", "name"), _BEFORE_EXTENSION)
def test_a_name_whose_lines_would_not_be_counted_is_refused(
    logs: Path, warehouse: psycopg.Connection, rules: str, name: str
) -> None:
    (logs / "old").mkdir()
    configure(logs, rules.format(logs=logs))
    (logs / "access.log").write_text(access("03/Oct/2026:10:00:00"))
    message = (
        r"would name access\.log access\S+\.log, which traffic\.access_logs \('access\.log\*'\) does not match, .* "
        r"take extension out of the logrotate configuration, or let the pattern match both \(as 'access\*\.log\*' does"
    )
    for run_id, dry_run in (("dry", True), ("r1", False)):
        with pytest.raises(ConfigurationError, match=message):
            log_rotation.rotate(run_id, dry_run, NOW)
    assert visible(logs) == ["access.log", "old"]


@needs_logrotate
def test_logs_of_other_programs_may_have_any_name(logs: Path, warehouse: psycopg.Connection) -> None:
    configure(logs, f"{RULES}extension .log\n")
    for path in (logs.parent / "escrow-app", logs / logrotate.STATE):
        path.write_text(path.read_text().replace("access.log", "payments.log"))
    (logs / "payments.log").write_text("paid\n")
    log_rotation.rotate("r1", False, NOW)
    [rotated] = visible(logs)
    assert (rotated.startswith("payments-"), rotated.endswith(".log")) == (True, True)
    assert acts(warehouse)["rotate_logs", "logrotate"][3]["rotated"] == {"payments.log": rotated}


@contextmanager
def deaf_writer(logs: Path) -> Iterator[None]:
    """Somebody has access.log open: writes a line now, and "late" once logrotate has compressed it."""
    with (logs / "access.log").open("a") as writer:
        writer.write("one\n")
        writer.flush()
        late = f"printf late >> /proc/{os.getpid()}/fd/{writer.fileno()}"
        configure(logs, f"{RULES}compress\nlastaction\n{late}\nendscript\n")
        yield


@needs_logrotate
def test_lines_that_a_deaf_writer_adds_to_a_compressed_log_are_saved(logs: Path, warehouse: psycopg.Connection) -> None:
    told = "1 lines that .* does not hold are saved in access.log.saved-1"
    with deaf_writer(logs), pytest.raises(MaintenanceFailed, match=told):
        log_rotation.rotate("r1", False, NOW)
    [packed] = logs.glob("access.log-*.gz")
    assert text_of(packed) == "one\n"
    assert (logs / "access.log.saved-1").read_text() == "late"


@needs_logrotate
def test_nothing_is_saved_through_a_link(logs: Path, warehouse: psycopg.Connection) -> None:
    (logs / "access.log.saved-1").symlink_to(logs.parent / "planted")
    (logs / "access.log.saved").symlink_to(logs.parent / "escrow-app")
    with deaf_writer(logs):
        (logs / "access.log").chmod(0o640)
        with pytest.raises(MaintenanceFailed, match="are saved in access.log.saved-2"):
            log_rotation.rotate("r1", False, NOW)
    assert not (logs.parent / "planted").exists()
    assert (logs / "access.log.saved-2").read_text() == "late"
    assert (logs / "access.log.saved-2").stat().st_mode & 0o777 == 0o640
    assert "access.log.saved" not in str(acts(warehouse)["rotate_logs", "logrotate"][2]["files"])


@needs_logrotate
def test_not_a_line_is_lost_with_a_live_writer(logs: Path, warehouse: psycopg.Connection) -> None:
    count = logs.parent / "written"
    program = Path(__file__).with_name("log_writer.py")
    process = subprocess.Popen([sys.executable, program, logs / "access.log", count, "signal"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    rules = RULES.replace("dateext", "dateext\ndateformat -%Y%m%d-%s\nstart 1")
    try:
        for turn in range(3):
            told = f"compress\ndelaycompress\npostrotate\nkill -USR1 {process.pid}\nendscript\n"
            configure(logs, rules + told)
            log_rotation.rotate(f"r{turn}", False, NOW)
            time.sleep(1.05)  # its names differ by the second
    finally:
        process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()
    written = int(count.read_text())
    assert sorted(all_lines(logs)) == sorted(f"line {n}" for n in range(written))
    assert len(list(logs.glob("access.log-*.gz"))) == 2


def test_without_logrotate_a_person_must_act(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    configure(logs, RULES)
    environment.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ConfigurationError, match="logrotate is not installed; install it, or leave the setting empty"):
        log_rotation.rotate("r1", False, NOW)
    assert acts(warehouse)["rotate_logs", "logrotate"][0] == "failed"


@needs_logrotate
def test_a_missing_configuration(logs: Path, warehouse: psycopg.Connection) -> None:
    with pytest.raises(ConfigurationError, match="does not exist; correct its path"):
        log_rotation.rotate("r1", False, NOW)


def test_its_debug_output_is_understood() -> None:
    intent = logrotate.read_intent(
        "rotating pattern: /l/a.log  after 1 days (2 rotations)\nolddir is /l/old, empty log files are not rotated\n"
        "considering log /l/a.log\n  Now: 2026-11-23 14:07\n  log needs rotating\n"
        "rotating pattern: /l/b.log  after 1 days (2 rotations)\n"
        "considering log /l/b.log\n  log does not need rotating (log is empty)\n"
        "removing old log /l/old/a.log-20260101.gz\ntruncating /l/a.log\nerror: bad.\n"
        "renaming /l/b.log.4.gz to /l/b.log.5.gz (rotatecount 2, logstart 3, i 4), \n"
        "renaming /l/b.log.3.gz to /l/b.log.4.gz (rotatecount 2, logstart 3, i 3), \n"
        "log /l/b.log.5.gz doesn't exist -- won't try to dispose of it\nrenaming /l/b.log to /l/b.log.3\n"
    )
    assert [path.name for path in intent.considered] == ["a.log", "b.log"]
    assert [path.name for path in intent.rotates] == ["a.log"]
    assert intent.removes == [Path("/l/old/a.log-20260101.gz"), Path("/l/b.log.4.gz")]
    assert intent.truncates == [Path("/l/a.log")]
    assert intent.folders == {Path("/l"), Path("/l/old")}
    assert intent.errors == ["bad"]
    relative = logrotate.read_intent(
        "rotating pattern: /l/*.log  weekly (4 rotations)\nolddir is kept/old, empty log files are not rotated\n"
        "considering log /l/a.log\nconsidering log /m/b.log\n"
    )
    assert relative.folders == {Path("/l"), Path("/l/kept/old"), Path("/m"), Path("/m/kept/old")}
