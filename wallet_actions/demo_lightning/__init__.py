"""The demo of payments: an LND's state machine over real gRPC, and a wallet killed again and again while it pays."""
