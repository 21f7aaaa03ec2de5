"""Resolving image names: roots, archives, uploads and file URIs."""
