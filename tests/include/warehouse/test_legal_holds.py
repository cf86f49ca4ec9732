"""Which holds are in force on which tables."""

import psycopg

from include.warehouse import legal_holds, session


def test_the_holds_in_force(warehouse: psycopg.Connection) -> None:
    placed = {
        table: legal_holds.place({"source_table": table, "time_from": "2026-01-01"}, "case 7", "anna").legal_hold_id
        for table in ("public.audit_logs", "access_logs", "public.tickets", "application_logs")
    }
    legal_holds.release(placed["public.tickets"], "anna")
    with session.transaction() as connection:
        found = {
            tables: [hold.source_table for hold in legal_holds.active(connection, *tables)]
            for tables in [("access_logs",), ("application_logs", "public.audit_logs"), ("public.tickets",), ()]
        }
    assert found == {
        ("access_logs",): ["access_logs"],
        ("application_logs", "public.audit_logs"): ["public.audit_logs", "application_logs"],
        ("public.tickets",): [],
        (): ["public.audit_logs", "access_logs", "application_logs"],
    }
    assert [hold.legal_hold_id for hold in legal_holds.all_active()] == [placed[table] for table in found[()]], (
        "by number, without the released one"
    )
