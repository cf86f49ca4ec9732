"""Chapter "Reporting & Metrics"."""
