"""The simulator: an OpenAI-compatible server without a model, honest about it, with faults on demand."""
