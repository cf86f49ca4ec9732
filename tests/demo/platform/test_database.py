"""The schema installs again without a change, and every role may do what it must and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from demo.databases import Databases
from demo.platform import database


def test_installing_again_changes_nothing(new_escrow: Callable[[], str], databases: Databases) -> None:
    url = databases.url(new_escrow(), "escrow_owner")
    with psycopg.connect(url, autocommit=True) as owner:
        query = """SELECT relname, relkind, relacl::text FROM pg_class WHERE relnamespace IN
                   ('public'::regnamespace, 'operations'::regnamespace) ORDER BY 1, 2"""
        before = owner.execute(query).fetchall()
        constraints = owner.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").fetchone()
        database.install(url)
        assert owner.execute(query).fetchall() == before
        assert owner.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").fetchone() == constraints == (9,)
        tables = {name for name, kind, _ in before if kind == "r"}
        assert tables == {*database.TABLES, "escrow_contracts"}
        missing = owner.execute(
            """SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
               AND obj_description(oid) IS NULL"""
        ).fetchall()
        assert missing == []


def test_roles_have_the_least_privileges(new_escrow: Callable[[], str], databases: Databases) -> None:
    name = new_escrow()

    def allowed(role: str, statement: str) -> bool:
        with psycopg.connect(databases.url(name, role), autocommit=True) as connection:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                return False
            return True

    assert allowed("operations_reader", "SELECT * FROM operations.transactions")
    assert not allowed("operations_reader", "SELECT * FROM public.transactions")
    assert not allowed("operations_reader", "DELETE FROM operations.audit_logs")
    assert not allowed("operations_reader", "INSERT INTO operations.fees (kind) VALUES ('escrow')")
    assert allowed("operations_maintainer", "SELECT * FROM public.audit_logs")
    assert allowed("operations_maintainer", "DELETE FROM public.audit_logs")
    assert not allowed("operations_maintainer", "UPDATE public.audit_logs SET actor = ''")
    assert not allowed("operations_maintainer", "SELECT * FROM public.users")
    assert not allowed("operations_maintainer", "SELECT * FROM operations.users")
    assert not allowed("operations_maintainer", "CREATE TABLE public.own (id int)")
    assert not allowed("escrow_app", "DELETE FROM public.audit_logs")
    assert not allowed("escrow_app", "SELECT * FROM public.audit_logs")
    assert not allowed("escrow_app", "UPDATE public.transactions SET amount_usd = 1")
    assert allowed("escrow_app", "INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now(), 'a', 'b')")


def test_the_maintainer_vacuums_and_analyzes(new_escrow: Callable[[], str], databases: Databases) -> None:
    url = databases.url(new_escrow(), "operations_maintainer")
    with psycopg.connect(url, autocommit=True) as maintainer:
        if maintainer.info.server_version < 170000:
            pytest.skip("the privilege exists since PostgreSQL 17")
        notices: list[str] = []
        maintainer.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        maintainer.execute("VACUUM (ANALYZE) public.page_views")
        assert notices == []
