"""A task for slicer_cli_web, for sites that start every analysis that way."""
