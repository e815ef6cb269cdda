"""Aggregations over groups of runs."""
