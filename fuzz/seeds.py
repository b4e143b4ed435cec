"""What fuzzing starts from, so that it need not find YAML, JSON and URLs by itself."""

from __future__ import annotations

import json
import random

__all__ = ["SEEDS"]

_OBJECT = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "a", "labels": {"x": "y"}},
    "spec": {
        "hosts": ["a"],
        "http": [{"match": [{"uri": {"regex": "/a.*"}}], "route": [{"destination": {"host": "a"}}]}],
    },
}
_YAML = [
    b"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: 80\n    name: http\n---\n",
    b"&a [*a, {<<: *a, b: &c 'x'}]\n...\n--- !!int 5\n",
    b"a: |\n  text\nb: >-\n  more\n? c\n: d\n# comment\n%YAML 1.2\n",
    b'\xef\xbb\xbfa: "\\x41\\ud800"\nb: .nan\nc: 0x1f\nd: 2024-01-01\n',
]
_RULES = [
    b"    timeout: 1.5s\n    retries: {attempts: 2, perTryTimeout: 500ms, retryOn: 5xx}\n",
    b"    fault: {delay: {percentage: {value: 0.1}, fixedDelay: 5s}, abort: {httpStatus: 503}}\n",
    b"    mirrors: [{destination: {host: b}, percentage: {value: 50}}]\n    rewrite: {uri: /x}\n",
    b"    headers: {request: {set: {x: '%REQ(y)%'}, remove: [z]}}\n    corsPolicy: {allowOrigins: [{exact: a}]}\n",
]

_HAR = {"method": "GET", "url": "http://a/", "headers": [{"name": "a", "value": "b"}]}
_RANDOM = random.Random(1)
_BYTES = [_RANDOM.randbytes(size) for size in (256, 512, 1024, 2048, 4096) for _ in range(8)]
_FRAMES = bytes.fromhex(
    "000000040000000000"
    "000001010400000001"
    "88"
    "000006000000000001"
    "626f647920"
    "31"
    "000004080000000000"
    "00000001"
    "000008060000000000"
    "0000000000000000"
    "000000000100000001"
)
"""Settings, an answer with a body to the first stream, a window, a ping."""

SEEDS: dict[str, list[bytes]] = {
    "yaml": [*_YAML, json.dumps(_OBJECT).encode()],
    "rules": _RULES,
    "json": [json.dumps(_OBJECT).encode(), b'{"kind": "List", "items": [{"a": "\\ud800"}, 1e400, NaN, -0]}'],
    "regexes": [b"(a+)+$\naaaa", b"[[:alpha:]]{1,1000}\nabc", b"(?i)\\pL*\\b\nx", b"((a{100}){10})*\na"],
    "requests": [
        b"http://a:80/a/../b%2e?q=1\nx: a\nHost: a",
        b"https://[::1]:443/\ncookie: a=b",
        b"http://x.example.com/b",
    ],
    "traffic": [
        b'{"method": "GET", "url": "http://a/x", "headers": {"x": "y"}, "source_labels": {"a": "b"}}\n{"method": 1}\n',
        b'{"authority": "a:80", "path": "/a", "method": "GET", "protocol": "HTTP/1.1", "user_agent": null}\n',
        json.dumps({"log": {"entries": [{"request": _HAR}]}}).encode(),
    ],
    "responses": [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nT: u\r\n\r\n",
        b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end",
    ],
    "frames": [b"\0\0\0" + _FRAMES, b"\5\x20\x30" + _FRAMES + b"\0\0\x08\7\0\0\0\0\0\0\0\0\3\0\0\0\0"],
    "worlds": _BYTES,
    "values": _BYTES,
    "words": [b"1h30m5.5s", b"*.example.com", b"outbound_.80_.v1_.a.b", b"10.0.0.0/8", b"%REQ(x):5%%", b"a/b=c"],
}
"""Target -> inputs."""
