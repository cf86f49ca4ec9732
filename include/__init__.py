"""All logic of the collection; the floors are described in docs/architecture.md."""
