"""What a person draws and what comes of it: boxes, lesions, edits, the half-height edge."""
