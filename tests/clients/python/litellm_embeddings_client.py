"""litellm's embedding and rerank, as a vLLM that somebody hosts."""

import litellm
from common import KEY, MODEL, URL

documents = ["Violins have strings.", "A lichen is a fungus that lives with algae."]
told = litellm.embedding(
    model=f"openai/{MODEL}", input=documents, api_base=f"{URL}/v1", api_key=KEY
)
assert [len(item["embedding"]) for item in told.data] == [384, 384], told

ranked = litellm.rerank(
    model=f"hosted_vllm/{MODEL}",
    query="What is a lichen?",
    documents=documents,
    top_n=1,
    api_base=URL,
    api_key=KEY,
)
[best] = ranked.results
assert best["index"] == 1 and best["relevance_score"] > 0.5, ranked
