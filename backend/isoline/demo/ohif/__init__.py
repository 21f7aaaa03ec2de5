"""The demonstration in OHIF: a viewer, an archive and isoline at one origin."""
