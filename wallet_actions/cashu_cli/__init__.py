"""`wallet-actions cashu`: a Cashu wallet for a person at a terminal (extras `cashu` and `cli`).

A program that puts the wing `cashu` and the command line of `ops` together; nothing imports it.
"""
