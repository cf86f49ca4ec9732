"""Tests of the collection, on real servers; they mirror the folders of the code."""
