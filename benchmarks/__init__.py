"""Measurements, each printed as a ratio against a named limit or peer that was measured in the same run.

Every side runs in a process of its own, the sides in turns (A B A B …), on a memory-backed folder where there is one. A
flush costs a fixed time there, by `flush/`: the disk of a shared machine is no yardstick.
"""
