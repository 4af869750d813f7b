"""A page to compare sounds by ear and by eye, in one file that needs no network."""
