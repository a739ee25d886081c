"""Comparison of the methods."""
