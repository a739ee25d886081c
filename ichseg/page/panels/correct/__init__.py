"""Corrections of a mask by hand."""
