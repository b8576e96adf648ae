"""openai's embeddings: one text, several, base64 as the client asks by itself, fewer dimensions."""

import math

from common import KEY, MODEL, URL
from openai import BadRequestError, OpenAI

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
texts = ["What is a lichen?", "A lichen is a fungus that lives with algae.", "Violins have strings."]

# the client asks for base64 where nothing is said, and reads it
told = client.embeddings.create(model=MODEL, input=texts)
vectors = [item.embedding for item in told.data]
assert [item.index for item in told.data] == [0, 1, 2] and told.usage.prompt_tokens > 0, told
assert {len(vector) for vector in vectors} == {384}, vectors
near, far = (sum(a * b for a, b in zip(vectors[0], other)) for other in vectors[1:])
assert near > 0.5 > far, (near, far)

[item] = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float").data
# in another pass sums come in another order
assert math.dist(item.embedding, vectors[0]) < 1e-5, item

[item] = client.embeddings.create(model=MODEL, input=texts[0], dimensions=64).data
assert len(item.embedding) == 64 and math.isclose(math.hypot(*item.embedding), 1, abs_tol=1e-5)

try:
    client.embeddings.create(model=MODEL, input="x", dimensions=1000)
except BadRequestError as error:
    assert error.param == "dimensions", error
else:
    raise AssertionError("1000 dimensions were given")
