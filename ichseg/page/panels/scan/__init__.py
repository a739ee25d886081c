"""Opening scans: files, series, the sample."""
