"""What the demos share: a child process that is killed, its parent, and what people see of them.

A demo has a module for its child, with a pydantic model of what it is to do. The child (`child.main`) reads that from
its standard input, recovers, waits to be told, does one operation, and says what happens, a line of JSON each. The
parent (`parent.run_child`) starts one after the other and kills them.
"""
