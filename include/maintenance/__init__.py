"""Chapter "Routine Maintenance"."""
