"""Chapter "Monitoring Procedures": the watch."""
