"""Child process of the python-wireguard backend: ``python -m uplink.wg_python_child INTERFACE``.

Makes a bare WireGuard interface. The library calls C ``exit`` on failure, so it is never imported anywhere else. The
key it is given here is random and replaced by `wg` right after.
"""

from __future__ import annotations

import importlib
import sys


def main(argv: list[str]) -> int:
    """Exit code 0: the calls returned (which does not prove that the interface exists)."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m uplink.wg_python_child INTERFACE\n")
        return 2
    try:
        library = importlib.import_module("python_wireguard")
    except (ImportError, OSError) as error:  # OSError: its shared object is for x86-64 alone
        sys.stderr.write(f"python-wireguard cannot be loaded: {error}\n")
        return 1
    private, _ = library.Key.key_pair()
    library.Server(argv[0], private, "169.254.255.254/32", 51820).enable()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
