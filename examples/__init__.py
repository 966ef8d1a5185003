"""Trained networks, a little data, and the scripts that made them. Not part of the installation."""
