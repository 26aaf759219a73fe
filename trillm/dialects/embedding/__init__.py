"""Embeddings as OpenAI's API has them, in the forms that servers differ in: inputs, encodings, dimensions, batches."""
