"""The demo: real ecash of a real mint, carried through `kill -9` again and again."""
