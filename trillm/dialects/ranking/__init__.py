"""Ranking as Cohere, Jina, Voyage, vLLM, llama.cpp, TEI and infinity have it: read as one thing, answered as asked."""
