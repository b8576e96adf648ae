"""langchain-openai: invoke, stream, structured output by its default method, a tool's whole loop."""

from common import KEY, MODEL, NOTE, QUESTION, URL, User, check_weather
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from typing import Literal

llm = ChatOpenAI(
    model=MODEL, base_url=f"{URL}/v1", api_key=KEY, temperature=0, max_tokens=64, max_retries=0
)
said = llm.invoke([("human", QUESTION)])
assert "Paris" in said.content and said.usage_metadata["output_tokens"] > 0, said

chunks = list(llm.stream(QUESTION))
assert len(chunks) > 3 and "".join(chunk.content for chunk in chunks), chunks

user = llm.with_structured_output(User).invoke(NOTE)
assert isinstance(user, User), user


@tool
def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
    """The weather of a city."""
    return f"-3 degrees {unit} in {city}, snow"


forced = llm.bind_tools([get_weather], tool_choice="any", strict=True, parallel_tool_calls=False)
messages = [HumanMessage("What is the weather in Oslo?")]
asked = forced.invoke(messages)
assert asked.tool_calls and not asked.invalid_tool_calls, asked
messages.append(asked)
for call in asked.tool_calls:
    check_weather(call["args"])
    messages.append(get_weather.invoke(call))
answer = llm.bind_tools([get_weather], tool_choice="none").invoke(messages)
assert answer.content and not answer.tool_calls, answer
