"""trillm: one address in front of the LLM servers that a person or a team runs."""

__version__ = "0.1.0"
