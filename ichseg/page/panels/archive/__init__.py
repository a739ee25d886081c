"""The image archive: a scan that is opened from there, and results that are sent back."""
