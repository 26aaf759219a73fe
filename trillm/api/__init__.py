"""The Quart-Trio face: every HTTP route."""
