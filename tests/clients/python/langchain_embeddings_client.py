"""LangChain's OpenAIEmbeddings. Texts go as they are: its own ids would be another tokenizer's."""

from common import KEY, MODEL, URL
from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(
    model=MODEL, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False
)
documents = ["A lichen is a fungus that lives with algae.", "Violins have strings."]
query = embeddings.embed_query("What is a lichen?")
near, far = (
    sum(a * b for a, b in zip(query, vector)) for vector in embeddings.embed_documents(documents)
)
assert near > 0.5 > far, (near, far)
