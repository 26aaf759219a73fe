"""The listener on the one port."""
