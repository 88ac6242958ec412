"""The OpenADR 2.0a VEN: EiEvent alone, HTTP pull. Its entry is `agent.openadr.v20a.ven`.

2.0a is 2.0b's older, smaller sibling: one service, the signal SIMPLE, no registration and no
reports. Its messages are read into the same values, and its events are taken in by the same code.
"""
