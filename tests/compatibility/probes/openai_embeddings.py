"""OpenAI's own client: embeddings in its default encoding (base64), as floats, many at once, and refused."""

from functools import partial

import openai
from checks import check, main, raised


def client_of(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@check("`embeddings.create`, base64 as it comes", "embed")
def default(url, model):
    answer = client_of(url).embeddings.create(model=model, input=["one", "two"])
    assert [entry.index for entry in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) > 8
    assert answer.usage.prompt_tokens > 0


@check('`embeddings.create`, `encoding_format="float"`', "embed")
def floats(url, model):
    one = client_of(url).embeddings.create(model=model, input="one", encoding_format="float").data[0].embedding
    same = client_of(url).embeddings.create(model=model, input="one").data[0].embedding
    assert max(abs(a - b) for a, b in zip(one, same, strict=True)) < 1e-4


@check("`embeddings.create`, 300 inputs, in their order", "embed")
def many(url, model):
    client = client_of(url)
    inputs = [f"text number {number}" for number in range(300)]
    answer = client.embeddings.create(model=model, input=inputs)
    assert [entry.index for entry in answer.data] == list(range(300))
    last = client.embeddings.create(model=model, input=inputs[-1]).data[0].embedding
    assert max(abs(a - b) for a, b in zip(answer.data[-1].embedding, last, strict=True)) < 2e-2


@check("empty input: `BadRequestError`", "embed")
def empty(url, model):
    for nothing in ("", []):
        ask = partial(client_of(url).embeddings.create, model=model, input=nothing)
        assert raised(openai.BadRequestError, ask).param == "input"


main("openai")
