"""The peers, each a side that runs in an environment of its own; nothing of it is among the product's dependencies."""
