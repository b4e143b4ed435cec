"""What a kept library, httpcore, serves: HTTP/2, trio, upgrades and CONNECT; pools pinned to one endpoint each."""
