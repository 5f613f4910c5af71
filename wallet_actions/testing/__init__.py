"""Help for testing actions of your own: stores' contract, faults of peers, a real mint to test against."""
