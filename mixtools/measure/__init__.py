"""Loudness, features and metrics."""
