"""What counts as an address, against the standard library's parser."""

from __future__ import annotations

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from meshlib.model.hosts import is_ip

OCTETS = st.text("0123456789", max_size=3)
DOTTED = st.lists(OCTETS, min_size=3, max_size=5).map(".".join)


@given(DOTTED | st.ip_addresses().map(str) | st.text(max_size=20))
@example("1.2.3.4\n")
@example("01.2.3.4")
@example("256.1.1.1")
@example("\u0661.2.3.4")
@example("fe80::1%eth0")
def test_an_address_is_what_the_standard_library_reads_as_one(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        assert not is_ip(text)
    else:
        assert is_ip(text)
