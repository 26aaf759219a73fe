"""The Model Context Protocol face: JSON-RPC 2.0 over WebSocket, Streamable HTTP and stdio. Imported when first used."""
