"""The command line `wallet-actions`: what an operator looks at and does, with nothing but the database's file.

Wings add commands of their own through entry points of the group `wallet_actions.commands`, see `plugins`. Importing
this package needs no extra; the commands need the extra `cli`.
"""
