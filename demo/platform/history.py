"""Generates the platform's past: rows, chain transactions, logs, and what the watch would have observed. All UTC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from demo.platform import activity, database, observations, rhythm, trades
from demo.platform import requests as http
from demo.platform.activity import Activity, NextIds
from demo.platform.log_files import RotatedLogs, access_lines, begin_live_log
from demo.platform.rhythm import Array, timestamps

if TYPE_CHECKING:
    import psycopg

    from demo.platform.trades import Trades

AUDIT_DAYS, AUDIT_PER_DAY = 130, 300
"""How far audit logs reach back before the last day, so that pruning after 90 days has work, and their volume."""
_ACTIONS = (
    "transaction.viewed", "transaction.updated", "user.verified", "user.updated", "ticket.answered", "settings.changed",
    "report.exported", "login.reviewed",
)  # fmt: skip
_STAFF = ("admin:amara", "admin:jonas", "support:mei", "support:diego", "system")
_COLUMNS = {
    "users": "user_id, email, full_name, registered_at, verified_at",
    "sessions": "session_id, user_id, started_at, ended_at, address",
    "page_views": "page_view_id, session_id, user_id, viewed_at, path",
    "transactions": trades.COLUMNS,
    "fees": "fee_id, transaction_id, kind, charged_at, amount_usd",
    "support_tickets": "ticket_id, user_id, priority, subject, created_at, first_response_at, resolved_at",
    "feedback": "feedback_id, user_id, given_at, rating",
    "authentication_events": "event_id, user_id, occurred_at, kind, succeeded, address",
    "audit_logs": "audit_log_id, created_at, actor, action, subject",
}


def generate(
    owner_url: str,
    warehouse_url: str | None,
    logs: Path,
    *,
    first_day: date,
    days: int,
    scale: int = 1,
    seed: int = 7,
    chain_url: str | None = None,
) -> dict[str, int]:
    """Generate ``days`` finished days from ``first_day`` on and return how many rows and lines were written.

    Volumes on an average day are ``scale`` times those of the guide's daily reports. The same arguments on an empty
    platform give the same rows and lines. Rows are written in one transaction; a day that has page views already is
    left as it is, and numbers go on from the highest. With ``warehouse_url`` the watch's observations are written
    too, with ``chain_url`` (scale 1) the deposits, releases, disputes and refunds are made on the chain.
    Raises psycopg.Error, OSError, or ValueError when ``days`` or ``scale`` is below 1.
    """
    import psycopg

    if days < 1 or scale < 1:
        raise ValueError(f"days ({days}) and scale ({scale}) must be at least 1")
    with psycopg.connect(owner_url, options="-c timezone=UTC") as connection:
        counts = _Platform(connection, logs, first_day, days, scale, seed).write(chain_url)
    if warehouse_url:
        with psycopg.connect(warehouse_url, options="-c timezone=UTC") as connection:
            counts["observations"] = observations.write(connection, first_day=first_day, days=days, seed=seed)
    return counts


class _Platform:
    """One generation: the days to write, the next numbers, the connection."""

    def __init__(
        self, connection: psycopg.Connection[Any], logs: Path, first_day: date, days: int, scale: int, seed: int
    ) -> None:
        self.connection, self.logs, self.scale, self.seed = connection, logs, scale, seed
        self.first_day, self.number_of_days = first_day, days
        self.end = first_day + timedelta(days=days)
        self.closed = rhythm.closures(seed, first_day, days)
        self.gap = observations.gap(first_day, days)
        self.pool = activity.addresses(seed)
        self.counts = dict.fromkeys((*database.TABLES, "access_lines", "application_lines", "error_lines"), 0)

    def write(self, chain_url: str | None) -> dict[str, int]:
        days = self._days_to_write()
        if not days:
            return self.counts
        self.next_ids = self._read_next_ids()
        new_platform = self.next_ids.users == 1
        self.origin = self.first_day if new_platform else self._first_day_of_all()
        self._take_constraints_down()
        if new_platform:
            self._write_users(*activity.first_registrations(self.first_day, self.scale, self.seed))
        trade_days = [*trades.lead_days(self.first_day), *days] if new_platform else days
        made = trades.generate(
            trade_days, origin=self.origin, scale=self.scale, seed=self.seed, users=self.next_ids.users - 1,
            first_id=self.next_ids.transactions, end=self.end, closed=self.closed,
        )  # fmt: skip
        if chain_url and self.scale == 1:
            from demo.platform import chain_history

            address = chain_history.perform(chain_url, made, since=days[0])
            self.connection.execute("INSERT INTO escrow_contracts (address) VALUES (%s)", (address,))
        files = RotatedLogs(self.logs, self.end - timedelta(days=1))
        try:
            self._write_days(days, made, files)
        finally:
            files.finish()
        self._write_trades(made)
        self._write_audit_logs(days, new_platform)
        self._put_constraints_back()
        self._close_sessions(days)
        return self.counts

    def _days_to_write(self) -> list[date]:
        wanted = [self.first_day + timedelta(days=number) for number in range(self.number_of_days)]
        known = self.connection.execute(
            """SELECT day FROM unnest(%s::date[]) AS day
               WHERE EXISTS (SELECT FROM page_views WHERE viewed_at >= day::timestamptz
                             AND viewed_at < (day + 1)::timestamptz)""",
            (wanted,),
        )
        there = {day for (day,) in known}
        return [day for day in wanted if day not in there]

    def _first_day_of_all(self) -> date:
        found = self.connection.execute("SELECT min(viewed_at)::date FROM page_views").fetchone()
        return found[0] if found and found[0] else self.first_day

    def _read_next_ids(self) -> NextIds:
        found = {}
        for table in (field.name for field in fields(NextIds)):
            key = _COLUMNS[table].split(",")[0]
            row = self.connection.execute(f"SELECT coalesce(max({key}), 0) + 1 FROM {table}".encode()).fetchone()  # noqa: S608 - names are ours
            assert row is not None
            found[table] = int(row[0])
        return NextIds(**found)

    # ------------------------------------------------------------------------------------------------ rows
    def _copy(self, table: str, lines: Iterable[str]) -> None:
        lines = iter(lines)
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({_COLUMNS[table]}) FROM STDIN".encode()) as copy,
        ):
            while chunk := list(islice(lines, 20_000)):
                copy.write("".join(chunk))
                self.counts[table] += len(chunk)

    def _write_users(self, registered: Array, verified: Array) -> None:
        first = self.next_ids.users
        lines = (
            f"{number}\tuser{number}@gold-escrow.example\tUser {number}\t{registration}\t{verification}\n"
            for number, (registration, verification) in enumerate(
                zip(timestamps(registered), timestamps(verified), strict=True), first
            )
        )
        self._copy("users", lines)
        self.next_ids.users += len(registered)

    def _write_days(self, days: list[date], made: Trades, files: RotatedLogs) -> None:
        likings = activity.affinity(self.seed, self.next_ids.users - 1 + 60 * self.scale * len(days))
        late: list[str] = []
        for day in days:
            done = activity.generate(
                day, origin=self.origin, scale=self.scale, seed=self.seed, known_users=self.next_ids.users - 1,
                likings=likings, transactions=self._highest_transaction(made, day), next_ids=self.next_ids,
                end=self.end, closed=self.closed,
            )  # fmt: skip
            late = self._write_logs(day, done, made, files, late)
            self._write_activity(done)

    @staticmethod
    def _highest_transaction(made: Trades, day: date) -> int:
        before = int((made.created < rhythm.start_of(day)).sum())
        return int(made.ids[max(before - 1, 0)]) if len(made.ids) else 1

    def _write_activity(self, done: Activity) -> None:
        ids, pool = self.next_ids, self.pool
        self._write_users(done.registered, done.verified)
        user_texts = [str(user) if user else r"\N" for user in done.session_user.tolist()]
        starts, ends = timestamps(done.session_start), timestamps(done.session_end)
        self._copy(
            "sessions",
            (
                f"{number}\t{user}\t{start}\t{end}\t{address}\n"
                for number, user, start, end, address in zip(
                    done.session_ids.tolist(),
                    user_texts,
                    starts,
                    ends,
                    pool[done.session_address].tolist(),
                    strict=True,
                )
            ),
        )
        self._copy("page_views", self._view_lines(done, user_texts))
        ids.sessions += len(user_texts)
        ids.page_views += len(done.view_time)
        self._copy("authentication_events", self._event_lines(done))
        ids.authentication_events += len(done.event_time)
        tickets = [
            f"{number}\t{user}\t{priority}\t{subject}\t" + "\t".join(timestamps(np.array(times))) + "\n"
            for number, (user, priority, subject, *times) in enumerate(done.tickets, ids.support_tickets)
        ]
        self._copy("support_tickets", tickets)
        ids.support_tickets += len(tickets)
        times = timestamps(np.array([time for _, time, _ in done.ratings], dtype=np.int64))
        ratings = [
            f"{number}\t{user}\t{time}\t{rating}\n"
            for number, ((user, _, rating), time) in enumerate(zip(done.ratings, times, strict=True), ids.feedback)
        ]
        self._copy("feedback", ratings)
        ids.feedback += len(ratings)

    def _view_lines(self, done: Activity, user_texts: list[str]) -> Iterator[str]:
        first, session = self.next_ids.page_views, self.next_ids.sessions
        columns = zip(done.view_session.tolist(), timestamps(done.view_time), done.view_paths(), strict=True)
        for number, (place, time, path) in enumerate(columns, first):
            yield f"{number}\t{session + place}\t{user_texts[place]}\t{time}\t{path}\n"

    def _event_lines(self, done: Activity) -> Iterator[str]:
        columns = zip(
            done.event_user.tolist(), timestamps(done.event_time), done.event_kind.tolist(),
            done.event_succeeded.tolist(), self.pool[done.event_address].tolist(), strict=True,
        )  # fmt: skip
        for number, (user, time, kind, succeeded, address) in enumerate(columns, self.next_ids.authentication_events):
            yield f"{number}\t{user or chr(92) + 'N'}\t{time}\t{kind}\t{succeeded}\t{address}\n"

    def _write_trades(self, made: Trades) -> None:
        self._copy("transactions", made.rows())
        transactions, kinds, times, cents = trades.fees(made)
        columns = zip(transactions.tolist(), kinds, timestamps(times), trades.dollars(cents), strict=True)
        self._copy(
            "fees",
            (
                f"{number}\t{transaction}\t{kind}\t{time}\t{amount}\n"
                for number, (transaction, kind, time, amount) in enumerate(columns, self.next_ids.fees)
            ),
        )

    def _write_audit_logs(self, days: list[date], new_platform: bool) -> None:
        last = days[-1]
        if new_platform:
            days = [last - timedelta(days=number) for number in range(AUDIT_DAYS, -1, -1)]
        number = self.next_ids.audit_logs
        for day in days:
            random = rhythm.generator(self.seed, day, "audit")
            count = int(random.poisson(AUDIT_PER_DAY * self.scale * rhythm.WEEKDAYS[day.weekday()]))
            times = timestamps(rhythm.moments(random, day, count))
            staff, action, subject = (
                random.integers(0, most, count).tolist() for most in (len(_STAFF), len(_ACTIONS), 9000)
            )
            columns = zip(times, staff, action, subject, strict=True)
            lines = [
                f"{place}\t{time}\t{_STAFF[who]}\t{_ACTIONS[what]}\t{_ACTIONS[what].split('.')[0]}:{whom}\n"
                for place, (time, who, what, whom) in enumerate(columns, number)
            ]
            self._copy("audit_logs", lines)
            number += count

    # ------------------------------------------------------------------------------------------------ logs
    def _write_logs(self, day: date, done: Activity, made: Trades, files: RotatedLogs, late: list[str]) -> list[str]:
        """Write the three logs of a day; ``late`` are the lines of the day before. Returns the day's own late lines."""
        asked = http.generate(day, done, made, self.pool, self.closed, seed=self.seed)
        others = [*http.health_lines(day, self.closed, self.gap, self.seed), *http.broken_lines(day, self.seed)]
        lines, own_late = access_lines(asked, others)
        self.counts["access_lines"] += len(asked) + len(others)
        following = late
        if day == files.last_day and not begin_live_log(self.logs, own_late):
            own, own_late = own_late, []
        else:
            own = []
        files.write("access.log", day, (line for part in (following, lines, own) for line in part))
        application, errors = http.problem_logs(asked, made, self.seed)
        files.write("application.log", day, application)
        files.write("error.log", day, errors)
        self.counts["application_lines"] += len(application)
        self.counts["error_lines"] += len(errors)
        return own_late

    # ----------------------------------------------------------------------------------------- constraints
    def _take_constraints_down(self) -> None:
        """Drop foreign keys and indexes for the load; the transaction puts them back or never happened."""
        found = self.connection.execute(
            """SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
               FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype = 'f'
               UNION ALL
               SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
               JOIN pg_class ON pg_class.oid = indexrelid
               WHERE relnamespace = 'public'::regnamespace
                 AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"""
        ).fetchall()
        for (statement,) in found:
            self.connection.execute(statement.encode())

    def _put_constraints_back(self) -> None:
        """Build foreign keys and indexes and let the numbers that the application hands out go on after ours."""
        database.run_file(self.connection, "constraints.sql")
        for table in database.TABLES:
            key = _COLUMNS[table].split(",")[0]
            self.connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), coalesce(max({key}), 1), "  # noqa: S608 - names are ours
                f"max({key}) IS NOT NULL) FROM {table}".encode()
            )

    def _close_sessions(self, days: list[date]) -> None:
        """Touch the sessions of the last quarter of the days, as a clean-up job does.

        Their old row versions stay behind, so that there is something to vacuum.
        """
        since = days[-1] - timedelta(days=len(days) // 4)
        self.connection.execute("UPDATE sessions SET ended_at = ended_at WHERE started_at >= %s", (since,))
