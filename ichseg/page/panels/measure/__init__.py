"""Measures of what is marked."""
