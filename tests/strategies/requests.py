"""Requests in words, as ``explain`` takes them: some concern the worlds of ``objects``, some are no requests at all."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.strategies import words

__all__ = ["requests"]

_ODD_URLS = ["", "a", "http://", "http://[::1", "http://a:99999/", "http://a:x/", "gopher://a/", "http://a b/", "//a"]


def requests() -> st.SearchStrategy[tuple[str, str, dict[str, str]]]:
    """(method, URL, headers)."""
    hosts = st.sampled_from([host for host in words.HOSTS if host != "*"]) | words.texts("host")
    ports = st.sampled_from(["", ":80", ":81", ":443", ":8080"])
    paths = words.texts("prefix").map(lambda path: path if path.startswith("/") else "/" + path)
    good = st.builds(
        lambda scheme, host, port, path: f"{scheme}://{host}{port}{path}",
        st.sampled_from(["http", "https"]),
        hosts,
        ports,
        paths,
    )
    urls = st.one_of(good, good, good, st.sampled_from(_ODD_URLS), st.text(max_size=20))
    methods = st.sampled_from(["GET", "POST", "get", "", "A B", "é"])
    headers = st.dictionaries(words.texts("headers"), words.texts("add"), max_size=3)
    return st.tuples(methods, urls, headers)
