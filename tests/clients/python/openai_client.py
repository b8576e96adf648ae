"""openai: chats whole and streamed, parsed structures, a tool's whole loop, completions, models."""

import json

from common import KEY, MODEL, NOTE, QUESTION, URL, WEATHER, User, check_weather
from openai import OpenAI

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
assert MODEL in [model.id for model in client.models.list()]

messages = [{"role": "user", "content": QUESTION}]
whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=32)
text = whole.choices[0].message.content
assert "Paris" in text, text

stream = client.chat.completions.create(
    model=MODEL, messages=messages, temperature=0, max_tokens=32, stream=True
)
assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text

parsed = client.chat.completions.parse(
    model=MODEL, messages=[{"role": "user", "content": NOTE}], response_format=User, max_tokens=200
)
assert isinstance(parsed.choices[0].message.parsed, User), parsed

tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
asked = client.chat.completions.create(
    model=MODEL, messages=messages, tools=tools, tool_choice="required", max_tokens=200
)
[call, *_] = asked.choices[0].message.tool_calls
check_weather(json.loads(call.function.arguments))
messages.append(asked.choices[0].message)
for call in asked.choices[0].message.tool_calls:
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "-3 degrees, snow"})
answer = client.chat.completions.create(
    model=MODEL, messages=messages, tools=tools, tool_choice="none", max_tokens=64
)
assert answer.choices[0].message.content, answer

completion = client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=8)
assert completion.choices[0].text, completion
