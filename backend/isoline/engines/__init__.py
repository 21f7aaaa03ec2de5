"""Where tiles run."""
