"""Isoline as a task of slicer_cli_web, for sites that start every analysis that way."""
