"""Several processes that are one server: their parent, what it shares out among them, and the line between them."""
