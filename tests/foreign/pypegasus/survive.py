"""A program that uses pypegasus3 as any program does, while somebody kills a node of the cluster.

It writes rows one after another and says each time that a hundred more are written; a write that fails is tried again
until it succeeds, by the same client. At the end it reads all of them. Usage: survive.py ROWS, in the directory of the
unpacked distribution; meta and table as in the tests of that client.
"""

import os
import sys
import time

sys.path.insert(0, os.getcwd())

from pypegasus.pgclient import Pegasus
from pypegasus.base.ttypes import error_types
from twisted.internet import defer, reactor, task

PATIENCE_SECONDS = 90
PAUSE_SECONDS = 0.1
TIMEOUT_MS = 500
OK = error_types.ERR_OK.value


@defer.inlineCallbacks
def insist(what, operation):
    """The answer of the first attempt that is OK, and how many failed before."""
    end = time.monotonic() + PATIENCE_SECONDS
    failures = 0
    while True:
        code, value = None, None
        try:
            answer = yield operation()
            code, value = answer if isinstance(answer, tuple) else (answer, None)
        except Exception as error:  # The client raises what its connections raise.
            code = error
        if code == OK:
            defer.returnValue((value, failures))
        failures += 1
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: still {code} after {PATIENCE_SECONDS} s")
        yield task.deferLater(reactor, PAUSE_SECONDS, lambda: None)


@defer.inlineCallbacks
def survive(rows):
    client = Pegasus(["127.0.0.1:34601", "127.0.0.1:34602", "127.0.0.1:34603"], "temp")
    is_ready = yield client.init()
    if not is_ready:
        raise RuntimeError("the client does not start")
    failures = 0
    for row in range(rows):
        key, value = f"survivor-{row}", f"value-{row}"
        _, failed = yield insist(f"set {key}", lambda: client.set(key, "s", value, 0, TIMEOUT_MS))
        failures += failed
        if row % 100 == 99:
            print(f"written {row + 1}", flush=True)
    for row in range(rows):
        key, value = f"survivor-{row}", f"value-{row}"
        found, _ = yield insist(f"get {key}", lambda: client.get(key, "s", TIMEOUT_MS))
        if found != value.encode():
            raise RuntimeError(f"{key} holds {found!r}")
    client.close()
    print(f"read {rows}, after {failures} failed writes", flush=True)


def main():
    code = []
    done = survive(int(sys.argv[1]))
    done.addErrback(lambda failure: code.append(failure.getTraceback()))
    done.addBoth(lambda _: reactor.stop())
    reactor.run()
    if code:
        sys.exit(code[0])


if __name__ == "__main__":
    main()
