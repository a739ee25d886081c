"""Boxes, undo and the methods' answers."""
