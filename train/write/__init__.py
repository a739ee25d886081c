"""What people read: a module for each document, with its tables and its text, and the figures."""
