"""litellm, as a provider with OpenAI's API and as Anthropic's: whole, streamed, with tools."""

import json

import litellm
from common import KEY, MODEL, NOTE, QUESTION, URL, WEATHER, User, check_weather

where = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": KEY, "max_tokens": 64}
messages = [{"role": "user", "content": QUESTION}]
whole = litellm.completion(messages=messages, temperature=0, **where)
text = whole.choices[0].message.content
assert "Paris" in text, text

streamed = litellm.completion(messages=messages, temperature=0, stream=True, **where)
assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == text

parsed = litellm.completion(
    messages=[{"role": "user", "content": NOTE}], response_format=User, **where
)
User.model_validate_json(parsed.choices[0].message.content)

tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
asked = litellm.completion(messages=messages, tools=tools, tool_choice="required", **where)
[call, *_] = asked.choices[0].message.tool_calls
check_weather(json.loads(call.function.arguments))
messages.append(asked.choices[0].message)
for call in asked.choices[0].message.tool_calls:
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "-3 degrees, snow"})
answer = litellm.completion(messages=messages, tools=tools, tool_choice="none", **where)
assert answer.choices[0].message.content, answer

anthropic = {**where, "model": f"anthropic/{MODEL}", "api_base": URL}
answer = litellm.completion(messages=[{"role": "user", "content": QUESTION}], **anthropic)
assert answer.choices[0].message.content, answer
