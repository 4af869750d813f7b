"""`python -m mixtools`."""

from mixtools.cli.main import main

main()
