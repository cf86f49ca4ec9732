"""The names in the SQL that partitions a table: of the table, of the old one, and of what is made for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from include.platform import database

_LONGEST = 63  # bytes of a name on a server as it is built by default; longer ones are cut


@dataclass(frozen=True)
class Names:
    """The names of an exchange, quoted where they must be: the table, the old one as a partition, its time column.

    ``boundaries`` are the first instants of the coming periods, in UTC; ``style`` writes one into a name.
    """

    table: str
    schema: str
    relation: str
    time: str
    boundaries: list[datetime]
    style: str

    @property
    def old(self) -> str:
        """The old table, when it has become the first partition."""
        return f"{self.schema}.{self.ended(self.relation)}"

    @property
    def first(self) -> str:
        """The first boundary as a literal."""
        return f"'{self.boundaries[0]:%Y-%m-%d} 00:00+00'"

    def ended(self, identifier: str) -> str:
        """Return what something of the old table is called afterwards, without its schema."""
        return derived(identifier, f"_until_{self.boundaries[0]:{self.style}}")

    def partition(self, start: datetime) -> str:
        """Return the name of the partition that begins at ``start``."""
        return f"{self.schema}.{derived(self.relation, f'_{start:{self.style}}')}"


def names_of(table: str, time: str, at: list[datetime], style: str) -> Names:
    """Return the names for a qualified table and its time column, both quoted where they must be.

    Raises ValueError for a table without its schema.
    """
    schema, relation = _split(table)
    return Names(table, schema, relation, time, at, style)


def derived(identifier: str, ending: str) -> str:
    """Return a name with an ending, as short as the server takes it and quoted where it must be."""
    kept = database.bare(identifier).encode()[: _LONGEST - len(ending)].decode(errors="ignore")
    return database.identifier(kept + ending)


def _split(name: str) -> tuple[str, str]:
    """Take a qualified name apart where its dot is not within quotes."""
    quoted = False
    for place, sign in enumerate(name):
        quoted ^= sign == '"'
        if sign == "." and not quoted:
            return name[:place], name[place + 1 :]
    raise ValueError(f"{name} is not a qualified name")
