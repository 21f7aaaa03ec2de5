"""For whoever extends isoline: contracts to inherit from, and suites that judge a viewer."""
