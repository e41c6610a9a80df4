"""Reproducible measurements: a table for people, then one line of JSON."""
