"""What other APIs say, put into words of the servers and back. Pure."""
