"""Chapter "Incident Response"."""
