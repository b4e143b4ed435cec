"""What a kept library, httpcore, serves: HTTP/1.1 under trio, upgrades, CONNECT, trace hooks; pools of one endpoint."""
