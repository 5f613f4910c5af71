"""A crash-tolerant engine for operations that move money."""
