"""Mixing stems like a record."""
