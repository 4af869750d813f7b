"""The command line: one file per command, the entry point in `main`."""
