"""WAV folders, mix files and what else touches the disk."""
