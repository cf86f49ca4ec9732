"""Adapters to the operated platform."""
