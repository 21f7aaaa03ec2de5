"""Boxes, grids, regions, tiles, seams and outlines: pure geometry, without files or models."""
