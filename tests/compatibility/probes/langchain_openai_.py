"""LangChain's ``OpenAIEmbeddings``, which sends token ids unless it is told not to."""

import openai
from checks import check, main, raised
from langchain_openai import OpenAIEmbeddings

#: This model's server takes token ids.
TAKES_IDS = "tiny-embed"
TEXTS = ["one text", "another text"]


def embeddings_of(url, model, **more):
    return OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key="none", **more)


def are_vectors(vectors):
    assert len(vectors) == len(TEXTS), vectors
    assert len(vectors[0]) == len(vectors[1]) > 8


class Ids:
    """Stands for tiktoken, whose tables cannot be had here: any ids will do."""

    @staticmethod
    def encode(text, **_):
        return [ord(letter) for letter in text]

    encode_ordinary = encode


@check("`OpenAIEmbeddings`, `check_embedding_ctx_length=False` (texts)", "embed")
def texts(url, model):
    are_vectors(embeddings_of(url, model, check_embedding_ctx_length=False).embed_documents(TEXTS))


@check("`OpenAIEmbeddings` as it comes (token ids)", "embed")
def token_ids(url, model):
    import tiktoken

    tiktoken.encoding_for_model = tiktoken.get_encoding = lambda *_: Ids
    embed = lambda: embeddings_of(url, model).embed_documents(TEXTS)  # noqa: E731
    if model.endswith(TAKES_IDS):
        are_vectors(embed())
        return "Token ids mean what *the server's* tokenizer makes of them, and LangChain's are those of OpenAI's."
    assert "check_embedding_ctx_length" in str(raised(openai.BadRequestError, embed))
    return "Refused: the server takes texts only. trillm's 400 names the setting: `check_embedding_ctx_length=False`."


main("langchain-openai")
