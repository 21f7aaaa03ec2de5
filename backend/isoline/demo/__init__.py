"""`isoline demo`: a first look at slides and at OHIF."""
