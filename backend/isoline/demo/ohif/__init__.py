"""OHIF: serving the plugin to a hospital's viewer, and a viewer of our own for a first look."""
