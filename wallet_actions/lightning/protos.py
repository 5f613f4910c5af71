"""Makes `lnd.binpb` and `lnd_pb2.pyi` from `lnd.proto`, with the compiler of the test mint's environment.

    python -m wallet_actions.lightning.protos

The environment has grpcio-tools in an exact version, so that the same text gives the same files everywhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MADE = ("lnd.binpb", "lnd_pb2.pyi")


def make(interpreter: Path, folder: Path = HERE) -> None:
    """Write the files.

    Args:
        interpreter: a Python that can import `grpc_tools`.
        folder: where to.
    Raises:
        subprocess.CalledProcessError: the compiler refused; it has told why on standard error.
    """
    command = [str(interpreter), "-m", "grpc_tools.protoc", f"-I{HERE}", f"--pyi_out={folder}"]
    subprocess.run(  # noqa: S603 a fixed command of ours
        [*command, f"--descriptor_set_out={folder / MADE[0]}", "lnd.proto"], check=True
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
