"""What the learning commands learn from, and how."""
