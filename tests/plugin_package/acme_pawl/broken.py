"""A node that can't be loaded."""

raise ImportError("acme_pawl needs a library that isn't there")
