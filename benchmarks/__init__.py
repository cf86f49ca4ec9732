"""Headline figures, each measured beside the tool that a user would pick instead."""
