"""What the settings of proxies in front may be: a path prefix, and addresses that are believed."""

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_PREFIX = 200
# The unreserved characters of RFC 3986: none of them means anything in HTML, in a header, in a log
# or in a script, where the prefix ends up.
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)
# With such a prefix nobody could tell whether a proxy has taken it off: /docs/docs or /docs?
OWN_ADDRESSES = frozenset(
    {
        "classify",
        "sweep",
        "embed",
        "timeline",
        "stream",
        "model",
        "assets",
        "livez",
        "readyz",
        "metrics",
        "docs",
        "explain",
        "openapi.json",
        "problems",
        "v2",
    }
)


# Bits before the IPv4 address in ::ffff:0:0/96.
_MAPPED_BITS = 96


def clean_prefix(text: str) -> str:
    """A path prefix as it is put before addresses: empty, or `/a/b` without a slash at its end.

    Raises:
        ValueError: it is none; the text says what one looks like.
    """
    prefix = text.strip().removesuffix("/")
    if not prefix:
        return ""
    if len(prefix) > LONGEST_PREFIX:
        raise ValueError(f"a path prefix has at most {LONGEST_PREFIX} characters")
    segments = prefix.split("/")[1:]
    if not _PREFIX.fullmatch(prefix) or "." in segments or ".." in segments:
        raise ValueError(
            "a path prefix is like /lookwhen or /team/lookwhen: it begins with one slash, and has "
            "letters, digits and . _ ~ - between its slashes"
        )
    if segments[0] in OWN_ADDRESSES:
        raise ValueError(
            f"a path prefix cannot begin with /{segments[0]}, which is an address of the service"
        )
    return prefix


def trusted_network(text: str) -> Network:
    """An address or a network, such as 10.1.2.3 or 10.1.0.0/16, whose proxies are believed.

    Raises:
        ValueError: it is none, or everybody is in it.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"name addresses or networks, such as 10.1.0.0/16: {error}") from None
    if (
        isinstance(network, ipaddress.IPv6Network)
        and network.prefixlen >= _MAPPED_BITS
        and (mapped := network.network_address.ipv4_mapped)
    ):
        # A peer's address is compared as IPv4, however the system writes it.
        network = ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    if network.prefixlen == 0:
        raise ValueError(f"{text} is everybody; name the addresses of the proxies")
    return network
