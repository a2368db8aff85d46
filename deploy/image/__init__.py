"""Builds the image's root file system without a container engine and tries it: `python -m deploy.image`, as root on Debian."""
