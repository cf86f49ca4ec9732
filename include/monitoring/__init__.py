"""Chapter "Monitoring Procedures" and the checklists."""
