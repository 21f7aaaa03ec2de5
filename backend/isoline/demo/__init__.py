"""`isoline demo`: a demonstration on a slide, and one in OHIF."""
