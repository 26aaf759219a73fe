"""What the probes of chat clients ask and expect."""

#: Two by two pixels of red.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="
DATA = f"data:image/png;base64,{PNG}"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
HI = [{"role": "user", "content": "Hello!"}]


def is_an_answer(text):
    """The tiny model says one sentence, the simulator something of its own."""
    assert isinstance(text, str), text
    assert len(text) > 10, text
