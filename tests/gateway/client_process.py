"""The official client in a separate process, unfixed or fixed: its ticks of one stream.

Called with a port, a client id and ``fixed`` or ``unfixed``; subscribes to the quotes of contract
8314, prints "subscribed" after the gateway has processed the request, and prints its ticks as JSON
at the end of the connection.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import ibapi.connection
from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.wrapper import EWrapper


class Listener(EWrapper, EClient):
    def __init__(self) -> None:
        EClient.__init__(self, self)
        self.ready = threading.Event()
        self.served = threading.Event()
        self.quotes: list[tuple[Any, ...]] = []
        self.codes: list[int] = []

    def nextValidId(self, order_id: Any) -> None:  # noqa: N802
        self.ready.set()

    def currentTime(self, time: Any) -> None:  # noqa: N802
        self.served.set()

    def error(self, req_id: Any, at_ms: Any, code: Any, text: Any, reject: str = "") -> None:
        self.codes.append(code)

    def tickByTickBidAsk(  # noqa: N802
        self,
        req_id: Any,
        time: Any,
        bid: Any,
        ask: Any,
        bid_size: Any,
        ask_size: Any,
        attributes: Any,
    ) -> None:
        self.quotes.append((time, bid, ask, float(bid_size), float(ask_size), False, False))


def main(port: int, client_id: int, *, fixed: bool) -> None:
    if fixed:
        ibapi.connection.Connection._recvAllMsg = lambda self: self.socket.recv(65536)
    client = Listener()
    client.connect("127.0.0.1", port, client_id)
    runner = threading.Thread(target=client.run)
    runner.start()
    assert client.ready.wait(30)
    contract = Contract()
    contract.conId = 8314
    client.reqTickByTickData(1, contract, "BidAsk", 0, False)
    client.reqCurrentTime()
    assert client.served.wait(30)
    sys.stdout.write("subscribed\n")
    sys.stdout.flush()
    runner.join(60)
    json.dump({"quotes": client.quotes, "codes": client.codes}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), fixed=sys.argv[3] == "fixed")
