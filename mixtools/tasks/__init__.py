"""What each command does: arrays and sources in, results out; no paths, no printing."""
