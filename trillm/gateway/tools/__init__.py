"""Tools run inside a chat request: what it asks for, its turns, the calls, and the one answer that comes of them."""
