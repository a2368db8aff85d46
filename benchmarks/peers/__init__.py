"""What we are measured beside. Each peer is a program of its own that prints one JSON line a figure; absent ones are skipped."""
