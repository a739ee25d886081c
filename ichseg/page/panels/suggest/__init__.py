"""Proposals: where blood is likely, and what a box on other tissue looks like."""
