"""A DNS server on loopback whose answers a test writes down: real messages, by UDP, for a real resolver."""

import threading
from socket import AF_INET, SOCK_DGRAM, socket

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset

NO_ANSWER = "no answer"
GARBAGE = "garbage"


class NameServer:
    """`zone` maps a name to its TXT records, to an rcode, to a name that it stands for (CNAME), or to what goes wrong.

    A name that is not in it does not exist.
    """

    def __init__(self):
        self.zone: dict[str, list[str] | dns.rcode.Rcode | str] = {}
        self.asked: list[str] = []
        self._socket = socket(AF_INET, SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "NameServer":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        with socket(AF_INET, SOCK_DGRAM) as client:
            client.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self._socket.getsockname()[1]
        resolver.lifetime = 0.3
        return resolver

    def _serve(self) -> None:
        while True:
            wire, client = self._socket.recvfrom(4096)
            if not wire:
                return
            if answer := self._answer(dns.message.from_wire(wire)):
                self._socket.sendto(answer, client)

    def _answer(self, query: dns.message.Message) -> bytes | None:
        name = query.question[0].name
        key = name.to_text(omit_final_dot=True)
        self.asked.append(key)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        found = self.zone.get(key, dns.rcode.NXDOMAIN)
        if found == NO_ANSWER:
            return None
        if found == GARBAGE:
            return b"\xff" * 40
        if isinstance(found, dns.rcode.Rcode):
            response.set_rcode(found)
        elif isinstance(found, str):
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", f"{found}."))
            response.answer.append(dns.rrset.from_text(f"{found}.", 60, "IN", "TXT", *self.zone[found]))
        elif found:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *found))
        return response.to_wire()
