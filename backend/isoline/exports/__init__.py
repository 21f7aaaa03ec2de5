"""How a viewer wants its objects: one file a dialect."""
