"""Lazy frames over a log directory."""
