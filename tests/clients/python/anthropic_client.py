"""anthropic: messages whole and streamed, a tool's whole loop, counted tokens."""

from anthropic import Anthropic
from common import KEY, MODEL, QUESTION, URL, WEATHER, check_weather

client = Anthropic(base_url=URL, api_key=KEY, max_retries=0)
messages = [{"role": "user", "content": QUESTION}]
whole = client.messages.create(model=MODEL, max_tokens=32, messages=messages)
assert whole.content[0].text, whole

with client.messages.stream(model=MODEL, max_tokens=32, messages=messages) as stream:
    text = "".join(stream.text_stream)
    assert text and stream.get_final_message().content[0].text == text

counted = client.messages.count_tokens(model=MODEL, messages=messages)
assert counted.input_tokens > 0, counted

tools = [{"name": "get_weather", "description": "The weather of a city.", "input_schema": WEATHER}]
messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
asked = client.messages.create(
    model=MODEL, max_tokens=200, messages=messages, tools=tools, tool_choice={"type": "any"}
)
uses = [block for block in asked.content if block.type == "tool_use"]
assert asked.stop_reason == "tool_use" and uses, asked
check_weather(uses[0].input)
results = [
    {"type": "tool_result", "tool_use_id": use.id, "content": "-3 degrees, snow"} for use in uses
]
messages += [{"role": "assistant", "content": asked.content}, {"role": "user", "content": results}]
answer = client.messages.create(
    model=MODEL, max_tokens=64, messages=messages, tools=tools, tool_choice={"type": "none"}
)
assert answer.content[0].text, answer
