""""Smart Contract Monitoring"."""
