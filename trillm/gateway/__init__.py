"""The use cases: call, reply, attempts, relay. Knows no sockets and no framework."""
