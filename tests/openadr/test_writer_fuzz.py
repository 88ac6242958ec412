"""Whatever is to be said: a message of ours is valid, and says it exactly, or it is one `WireError`."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from agent.core.event import Opt
from agent.errors import WireError
from agent.openadr.v20.messages import Code, EventAnswer, Response
from agent.openadr.v20.xml import check_outgoing, child, text
from agent.openadr.v20b import writer
from tests.openadr.odd import ODD, can_be_xml

pytestmark = pytest.mark.openadr2

anything = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(exclude_categories=()), max_size=8),  # lone surrogates, too
    st.sampled_from([said for said in ODD if len(said) < 100]),
)
times = st.timedeltas(timedelta(0), timedelta(days=2_500_000)).map(
    lambda since: datetime(1970, 1, 1, tzinfo=UTC) + since
)
lengths = st.none() | st.integers(0, 10**10).map(lambda s: timedelta(seconds=s))
responses = st.builds(Response, st.integers(0, 10**4), anything, anything)
answers = st.builds(
    EventAnswer,
    anything,
    st.integers(0, 2**33),
    st.sampled_from(Opt),
    st.sampled_from(Code),
    anything,
)
statuses = st.none() | st.builds(writer.Status, st.booleans(), st.booleans())
qualities = st.sampled_from(("Quality Good - Non Specific", "No Quality - No Value")) | anything
data = st.builds(
    writer.Datum,
    times,
    lengths,
    anything,
    qualities,
    anything | st.floats().map("{:.9g}".format),
    statuses,
)
reports = st.builds(
    writer.Report,
    anything,
    anything,
    anything,
    st.just("TELEMETRY_USAGE") | anything,
    times,
    st.lists(data, min_size=1, max_size=4),
)

MESSAGES = {
    "oadrPoll": st.builds(writer.poll, anything),
    "oadrResponse": st.builds(writer.response, anything, responses),
    "oadrQueryRegistration": st.builds(writer.query_registration),
    "oadrCreatePartyRegistration": st.builds(
        writer.create_party_registration, anything, anything, anything
    ),
    "oadrCancelPartyRegistration": st.builds(writer.cancel_party_registration, anything, anything),
    "oadrCanceledPartyRegistration": st.builds(
        writer.canceled_party_registration, anything, anything, responses
    ),
    "oadrRequestEvent": st.builds(writer.request_event, anything),
    "oadrCreatedEvent": st.builds(
        writer.created_event,
        anything,
        anything,
        st.lists(answers, max_size=3),
        st.none() | responses,
    ),
    "oadrCancelOpt": st.builds(writer.cancel_opt, anything, anything),
    "oadrRegisteredReport": st.builds(writer.registered_report, anything, anything),
    "oadrCreatedReport": st.builds(
        writer.created_report, anything, responses, st.lists(anything, max_size=3)
    ),
    "oadrCanceledReport": st.builds(
        writer.canceled_report, anything, responses, st.lists(anything, max_size=3)
    ),
    "oadrUpdateReport": st.builds(writer.update_report, anything, reports),
}


@pytest.mark.parametrize("kind", MESSAGES)
@given(outcome=st.data())
def test_whatever_is_said_is_valid_or_one_sentence(kind, outcome):
    try:
        message = outcome.draw(MESSAGES[kind])
    except WireError as error:
        sentence = str(error)
    else:
        sentence = ""
        check_outgoing(message)
        assert child(etree.fromstring(message), "oadrSignedObject", kind) is not None
    assert sentence.isprintable()
    assert len(sentence) < 400


@given(said=anything)
@example(said="a\rb\r\nc")
def test_what_xml_can_hold_arrives_exactly(said):
    try:
        message = writer.poll(said)
    except WireError:
        assert not can_be_xml(said)
        return
    assert text(etree.fromstring(message), "oadrSignedObject", "oadrPoll", "venID") == said
