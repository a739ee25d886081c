"""What turns a box or a slice into a mask, and how one box becomes the whole hematoma."""
