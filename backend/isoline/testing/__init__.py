"""Tests for extensions of isoline: contracts to inherit from, and suites that test viewers."""
