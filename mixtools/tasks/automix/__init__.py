"""Mixing by rules and by models."""
