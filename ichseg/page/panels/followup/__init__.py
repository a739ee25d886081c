"""Growth between two scans, and bedside scores."""
