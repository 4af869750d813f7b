"""Mix multitrack audio, and show the work."""

__version__ = "0.1.0"
