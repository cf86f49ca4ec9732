"""Rows that the tests of pruning begin with, where they need no special ones."""

import psycopg
import pytest

from tests.include.maintenance.pruning.audit_log_rows import CUT_OFF, wait_until_settled


@pytest.fixture
def filled(any_platform: psycopg.Connection) -> psycopg.Connection:
    """23 rows past their retention, one an hour, and 7 that are not."""
    any_platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action) SELECT %s::timestamptz - n * interval '1 hour',"
        " 'ann', 'x' FROM generate_series(-6, 23) AS n",
        (CUT_OFF,),
    )
    wait_until_settled(any_platform)
    return any_platform
