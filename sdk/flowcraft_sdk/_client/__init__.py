"""The clients and handles that applications use."""
