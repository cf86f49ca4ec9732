"""docs/warehouse.md says what the migrated database says."""

import psycopg

from include.settings import ROOT
from tests import dictionary


def test_the_page_is_up_to_date(warehouse: psycopg.Connection) -> None:
    assert (ROOT / "docs" / "warehouse.md").read_text() == dictionary.markdown(warehouse), "run make docs"


def test_every_table_and_column_is_in_it(warehouse: psycopg.Connection) -> None:
    text = dictionary.markdown(warehouse)
    assert "NO COMMENT" not in text
    columns = warehouse.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'ops'"
    ).fetchall()
    assert text.count("\n### ops.") == len({table for table, _ in columns})
    assert text.count("\n| `") == len(columns)


def test_it_is_read_from_the_database(warehouse: psycopg.Connection) -> None:
    before = dictionary.markdown(warehouse)
    assert dictionary.markdown(warehouse) == before
    warehouse.execute("COMMENT ON COLUMN ops.incident.title IS 'One | or\n two.'")
    warehouse.execute(
        "CREATE TABLE ops.new_thing (thing_id bigint PRIMARY KEY, incident_id text REFERENCES ops.incident)"
    )
    after = dictionary.markdown(warehouse)
    assert "| `title` | text |  | One \\| or two. |" in after
    assert (
        "### ops.new_thing\nNO COMMENT\n\n| column | type | key | meaning |\n|---|---|---|---|\n"
        "| `thing_id` | bigint | key | NO COMMENT |\n"
        "| `incident_id` | text, may be absent | of incident | NO COMMENT |\n"
    ) in after
