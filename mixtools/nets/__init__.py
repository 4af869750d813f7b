"""Learned models and their training; storage is handed in."""
