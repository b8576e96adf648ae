"""instructor, in its default mode: a model of pydantic out of a text, whole and in parts."""

import instructor
from common import KEY, MODEL, NOTE, URL, User
from openai import OpenAI

client = instructor.from_openai(OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0))
messages = [{"role": "user", "content": NOTE}]
ask = {"model": MODEL, "messages": messages, "max_tokens": 200, "temperature": 0, "max_retries": 0}
user = client.create(response_model=User, **ask)
assert isinstance(user, User), user

parts = list(client.create_partial(response_model=User, **ask))
assert len(parts) > 1 and User.model_validate(parts[-1].model_dump()), parts

users = list(client.create_iterable(response_model=User, **ask))
assert all(isinstance(each, User) for each in users), users
