"""langchain-openai over responses: invoke, stream, a structure, a tool's loop, kept messages."""

from typing import Literal

from common import KEY, MODEL, NOTE, QUESTION, URL, User, check_weather
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

fields = {"model": MODEL, "base_url": f"{URL}/v1", "api_key": KEY, "use_responses_api": True}
llm = ChatOpenAI(**fields, temperature=0, max_tokens=64, max_retries=0)
said = llm.invoke([("system", "Be brief."), ("human", QUESTION)])
assert "Paris" in said.text and said.usage_metadata["output_tokens"] > 0, said

chunks = list(llm.stream([("system", "Be brief."), ("human", QUESTION)]))
assert len(chunks) > 3 and "".join(chunk.text for chunk in chunks) == said.text, chunks

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
assert answer.text and not answer.tool_calls, answer

chain = ChatOpenAI(
    **fields, temperature=0, max_tokens=16, max_retries=0, use_previous_response_id=True
)
messages = [HumanMessage("My name is Mira. Say hello.")]
first = chain.invoke(messages)
second = chain.invoke([*messages, first, HumanMessage("What is my name?")])
assert second.usage_metadata["input_tokens"] > first.usage_metadata["total_tokens"], second
