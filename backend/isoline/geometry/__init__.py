"""Boxes, grids, regions, tiles, seams and outlines: numbers, and nothing of files or models."""
