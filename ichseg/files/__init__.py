"""What leaves the program and what it reads back: masks, tables, pictures, reports."""
