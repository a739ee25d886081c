"""The scans of a study: opened from its report, corrected, saved."""
