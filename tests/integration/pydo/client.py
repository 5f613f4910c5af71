"""DigitalOcean's official client, run by its environment's Python: `python client.py URL TOKEN`.

Reads a line of JSON for each call, `["droplet_actions.post", [args], {kwargs}]`, and writes what it returned as one. A
call of `shapes` returns what the client says that a method's answers look like.
"""

import ast
import inspect
import json
import operator
import re
import sys
from typing import Any

# A line of a shape, where a comment has been cut off; comments go on in lines that are none.
LINE = re.compile(r'"\w+":.*|[\[\]{},]+|("str"|0|0\.0|bool),?')


def shapes(method: Any) -> list[Any]:
    """The answers of a method, with a value of the right type at each place."""
    found = []
    for part in (inspect.getdoc(method) or "").split("response ==")[1:]:
        lines = [line.partition(" #")[0].strip() for line in part.splitlines()]
        kept = [line for line in lines if LINE.fullmatch(line)]
        found.append(ast.literal_eval("".join(kept).replace("bool", "True")))
    return found


def main() -> None:
    from pydo import Client  # it is in that environment alone

    client = Client(sys.argv[2], endpoint=sys.argv[1], retry_total=0)  # else it repeats a POST on 429, 500 and 503
    for line in sys.stdin:
        name, args, kwargs = json.loads(line)
        if name == "shapes":
            answer = shapes(operator.attrgetter(args[0])(client))
        else:  # the address needs no TLS
            answer = operator.attrgetter(name)(client)(*args, enforce_https=False, **kwargs)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
