"""What the project is worked on with, beside the package."""
