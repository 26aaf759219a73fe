"""What several test folders share: a whole trillm in this process, simulators behind it, and raw sockets before it."""
