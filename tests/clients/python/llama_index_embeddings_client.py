"""LlamaIndex's embeddings of a server with OpenAI's API."""

from common import KEY, MODEL, URL
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

embedding = OpenAILikeEmbedding(model_name=MODEL, api_base=f"{URL}/v1", api_key=KEY)
query = embedding.get_query_embedding("What is a lichen?")
documents = ["A lichen is a fungus that lives with algae.", "Violins have strings."]
near, far = (
    sum(a * b for a, b in zip(query, vector))
    for vector in embedding.get_text_embedding_batch(documents)
)
assert near > 0.5 > far, (near, far)
