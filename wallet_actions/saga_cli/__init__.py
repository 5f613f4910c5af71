"""`wallet-actions saga`: sagas for a person at a terminal (extra `cli`).

A program that puts the wing `saga` and the command line of `ops` together; nothing imports it.
"""
