"""openai's responses: whole, streamed, parsed, a conversation and a tool's loop that are kept."""

import json

from common import KEY, MODEL, NOTE, QUESTION, URL, WEATHER, User, check_weather
from openai import NotFoundError, OpenAI

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
ask = {"model": MODEL, "temperature": 0, "max_output_tokens": 64}

whole = client.responses.create(input=QUESTION, instructions="Be brief.", **ask)
assert "Paris" in whole.output_text and whole.usage.output_tokens > 0, whole

with client.responses.stream(input=QUESTION, instructions="Be brief.", **ask) as stream:
    text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == stream.get_final_response().output_text == whole.output_text, text

events = list(client.responses.create(input=QUESTION, stream=True, **ask))
assert [events[0].type, events[-1].type] == ["response.created", "response.completed"], events

parsed = client.responses.parse(input=NOTE, text_format=User, **ask)
assert isinstance(parsed.output_parsed, User), parsed
with client.responses.stream(input=NOTE, text_format=User, **ask) as stream:
    assert isinstance(stream.get_final_response().output_parsed, User)

second = client.responses.create(input="And of Italy?", previous_response_id=whole.id, **ask)
assert second.output_text and second.usage.input_tokens > whole.usage.total_tokens, second
assert client.responses.retrieve(second.id).output_text == second.output_text
client.responses.delete(second.id)
try:
    client.responses.retrieve(second.id)
    raise AssertionError("a deleted response is told")
except NotFoundError:
    pass

tool = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}
asked = client.responses.create(
    input="What is the weather in Oslo?",
    tools=[tool],
    tool_choice="required",
    parallel_tool_calls=False,
    **ask,
)
calls = [item for item in asked.output if item.type == "function_call"]
for call in calls:
    check_weather(json.loads(call.arguments))
results = [
    {"type": "function_call_output", "call_id": call.call_id, "output": "-3 degrees, snow"}
    for call in calls
]
answer = client.responses.create(
    input=results, previous_response_id=asked.id, tools=[tool], tool_choice="none", **ask
)
assert calls and answer.output_text, (asked, answer)
# nothing kept: the items go back as they came
items = [{"role": "user", "content": "What is the weather in Oslo?"}, *asked.output, *results]
sent = client.responses.create(input=items, tools=[tool], tool_choice="none", store=False, **ask)
assert sent.output_text == answer.output_text, (sent, answer)
