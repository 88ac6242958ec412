"""The page in a real Chromium: what is seen, that it stays live, and that data stays text."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
from yarl import URL

from agent.core.event import Opt, OptDecision
from agent.core.picture import Picture, Stop
from agent.core.plan import Plan
from agent.core.problems import Problem, Raised, Severity
from agent.core.site import Health, WorkloadState
from tests.core.build import NOON, at, event, gpu, record, snapshot, workload
from tests.web import pictures
from tests.web.browser import Browser, Page, chromium
from tests.web.pictures import moved, picture
from tests.web.serving import Site, samples, serving

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

HOSTILE = '<img src=x onerror="document.title=`owned`"><b>&amp;\u202e\'";$(reboot)'
LIVE = "document.body.dataset.live === 'yes'"


class Hall:
    """A site whose server and browser serve all tests, so that the chart library is compiled once."""

    def __init__(self, site: Site, browser: Browser) -> None:
        self.site = site
        self.browser = browser

    @asynccontextmanager
    async def opened(
        self, of: Picture, width: int = 1280, *blocked: str, **changes: object
    ) -> AsyncIterator[Page]:
        """The page of the site with a picture, once it is live; at the end it must not have complained."""
        self.site.history = samples(-300, 0)
        await self.site.show(of, **changes)
        async with self.browser.page(width) as page:
            await page.command("Network.setBlockedURLs", urls=list(blocked))
            await page.open(self.site.url)
            await page.until(LIVE)
            yield page
            assert page.complaints == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall() -> AsyncIterator[Hall]:
    async with serving(live=True) as site, chromium() as browser:
        yield Hall(site, browser)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bare(hall: Hall) -> AsyncIterator[Page]:
    """A page of the same origin with nothing on it, to ask single modules."""
    async with hall.browser.page() as page:
        await page.open(f"{hall.site.url}healthz")
        yield page


async def plotted(page: Page) -> None:
    await page.until("document.querySelectorAll('#plot .scatterlayer .trace').length >= 2")


async def module(page: Page, name: str, expression: str) -> object:
    """What an expression on one of the page's own modules, `m`, comes to."""
    return await page.evaluate(f"import('/static/{name}.js').then((m) => {expression})")


# --- what is seen --------------------------------------------------------------------------------


async def test_the_sentence_comes_first_and_follows_the_agent(hall):
    async with hall.opened(pictures.normal()) as page:
        assert await page.text("h1") == "Normal operation at 5.8 kW; no event is ahead."
        assert await page.text("#connection") == "live"
        assert await page.text("#site") == "hall 3"
        assert await page.evaluate("document.title") == "normal · hall 3 · flexload"
        zone = await page.text("#zone")
        assert zone.startswith("Times in Europe/Berlin (UTC+")
        view = await hall.site.show(pictures.holding())
        await page.until("document.querySelector('h1').textContent", view["sentence"])
        assert await page.evaluate("document.title") == "holding · hall 3 · flexload"


async def test_only_what_is_new_is_read_out(hall):
    announced = "document.querySelector('#announcement').textContent"
    async with hall.opened(pictures.holding(60)) as page:
        first = await page.evaluate(announced)
        assert "holding" in first
        later = await hall.site.show(pictures.holding(200))
        await page.until("document.querySelector('h1').textContent", later["sentence"])
        assert later["sentence"] != first
        assert await page.evaluate(announced) == first
        over = await hall.site.show(pictures.completed())
        await page.until(announced, over["sentence"])


async def test_the_event_is_shown_with_its_phases_countdown_and_command(hall):
    async with hall.opened(pictures.holding()) as page:
        assert await page.text("#event-title") == "Event ev-1"
        assert await page.text("#event-asks") == "fast-dr asks 25 % below baseline"
        assert await page.text("#event-opt") == "· opt in by policy: enrolled"
        assert await page.count("#phases li") == 6
        assert await page.text("#phases [aria-current=step] .step-name") == "holding"
        assert await page.count("#phases [data-state=past]") == 3
        assert await page.text("#countdown-label") == "ends in"
        before = await page.text("#countdown-left")
        assert before in ("9:00", "8:59", "8:58")
        await page.until(f"document.querySelector('#countdown-left').innerText !== '{before}'")
        assert await page.text("#event-command code") == 'flexload opt-out ev-1 --reason "..."'


async def test_a_test_event_and_one_that_was_left_say_so(hall):
    async with hall.opened(picture(0, record(event(test=True, start=300.0)))) as page:
        assert await page.text("#event-test") == "Test event"
        left = OptDecision(Opt.OUT, "operator ann", NOON, "maintenance")
        await hall.site.show(picture(0, record(event(start=300.0), opt=left)))
        await page.until("document.querySelector('#event-test').hidden")
        assert await page.text("#event-opt") == "· opt out by operator ann: maintenance"
        assert await page.text("#phases li:last-child .step-name") == "opted out"
        assert await page.text("#event-command code") == 'flexload opt-in ev-1 --reason "..."'


async def test_the_figures_and_the_chart_show_power_ceiling_and_baseline(hall):
    async with hall.opened(pictures.holding()) as page:
        await plotted(page)
        text = await page.text("#figures")
        for said in ("29.48 kW", "30.00 kW", "520 W below it", "40.00 kW", "10.40 kW", "99.9 %"):
            assert said in text
        names = "document.getElementById('plot').data.map((trace) => trace.name)"
        assert await page.evaluate(names) == ["Baseline", "Ceiling", "Power", "Ceiling to come"]
        to_come = "document.getElementById('plot').data[3].y"
        assert (await page.evaluate(to_come))[:2] == [30.0, 30.0]
        points = "document.getElementById('plot').data[2].y.filter((y) => y !== null).length"
        assert await page.evaluate(points) >= 200
        shaded = "document.getElementById('plot').layout.shapes.filter((s) => s.type === 'rect')"
        assert await page.evaluate(f"{shaded}.length") == 1
        assert await page.evaluate("document.getElementById('chart-note').hidden")


async def test_the_sites_own_limit_is_a_figure_but_no_line_as_in_the_history(hall):
    own = picture(0, ledger=(pictures.cap(0),))
    async with hall.opened(own) as page:
        await page.until("document.getElementById('plot').data?.[1].y.length > 0")
        assert await page.evaluate("document.getElementById('plot').data[1].y.at(-1)") is None
        assert "100.0 kW" in await page.text("#figures")


async def test_the_charts_times_are_the_viewers_local_ones(hall):
    async with hall.opened(pictures.normal()) as page:
        await plotted(page)
        tick = "[...document.querySelectorAll('#plot .xtick text')].at(-1).textContent"
        apart = f"""(() => {{
            const [hour, minute] = {tick}.split(':').map(Number);
            const now = new Date();
            const minutes = Math.abs(hour * 60 + minute - now.getHours() * 60 - now.getMinutes());
            return Math.min(minutes, 1440 - minutes);
        }})()"""
        assert await page.evaluate(apart) < 15


async def test_pointing_at_the_chart_reads_it_out_and_it_stays_while_the_chart_moves(hall):
    async with hall.opened(pictures.holding()) as page:
        await plotted(page)
        box = await page.evaluate(
            "document.getElementById('plot').getBoundingClientRect().toJSON()"
        )
        x, y = box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2
        for step in (0, 1):
            await page.command("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
        read = "document.querySelector('#plot .hoverlayer').textContent"
        await page.until(f"{read}.includes('Power')")
        await hall.site.show(pictures.holding(61))
        await page.until("document.getElementById('plot').data[2].y.at(-1)", 29.48)
        await page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))"
        )
        assert "kW" in await page.evaluate(read)


async def test_without_the_chart_library_everything_else_is_there(hall):
    async with hall.opened(pictures.holding(), 1280, "*plotly*") as page:
        await page.until(
            "document.getElementById('chart-note').innerText.includes('could not be loaded')"
        )
        assert "29.48 kW" in await page.text("#figures")


async def test_another_range_is_fetched_when_chosen(hall):
    async with hall.opened(pictures.normal()) as page:
        await plotted(page)
        hall.site.history = samples(-3600, 0)
        assert await page.text("#ranges [aria-pressed=true]") == "10 min"
        await page.evaluate("document.querySelectorAll('#ranges button')[1].click()")
        assert await page.text("#ranges [aria-pressed=true]") == "1 h"
        await page.until("document.getElementById('plot').data[2].x.length > 3000")


async def test_gpus_are_tiles_by_host_with_their_caps(hall):
    async with hall.opened(pictures.holding()) as page:
        assert await page.count(".host") == 2
        assert await page.count(".tile") == 8
        assert await page.count(".tile[data-state=capped]") == 4
        assert await page.text("#gpus-summary") == (
            "8 GPUs on 2 hosts · drawing 3.980 kW · 4 capped"
        )
        assert await page.text(".tile[data-state=capped]") == "395\n≤400"
        await page.evaluate("document.querySelector('.tile').focus()")
        detail = await page.text("#gpu-detail")
        for said in (
            "h1 / 0: draws 395 W of limit 400 W",
            "cap 400 W, was 700 W",
            "workload train",
        ):
            assert said in detail
        assert "train gives 300 W of 700 W" in detail


async def test_arrow_keys_move_among_the_tiles_and_one_tab_stop_serves_all(hall):
    async with hall.opened(pictures.holding()) as page:
        focused = "document.activeElement.dataset.uuid"
        await page.evaluate("document.querySelector('.tile').focus()")
        for key, wanted in (("ArrowRight", "GPU-1"), ("End", "GPU-7"), ("Home", "GPU-0")):
            await page.command("Input.dispatchKeyEvent", type="keyDown", key=key)
            await page.until(focused, wanted)
        assert await page.count(".tile[tabindex='0']") == 1


async def test_gpus_that_are_not_well_say_it_in_words(hall):
    entries = (pictures.cap(2),)
    gpus = [
        gpu(0, None, health=Health.LOST, detail="fell off the bus"),
        gpu(1, 500.0, health=Health.STALE),
        gpu(2, 600.0),
        gpu(3, 300.0, enforced_w=350.0),
    ]
    of = picture(1, snapshot=snapshot(gpus), ledger=entries)
    async with hall.opened(of) as page:
        words = "[...document.querySelectorAll('.tile-state')].map((node) => node.textContent)"
        assert await page.evaluate(words) == ["lost", "stale", "≠400", ""]
        assert await page.text("#gpus-summary") == (
            "4 GPUs on 1 host · drawing 1.400 kW and 1 unknown · 1 cap not taken · 1 stale · 1 lost"
        )
        labels = "[...document.querySelectorAll('.tile')].map((node) => node.ariaLabel)"
        lost, _, refused, lower = await page.evaluate(labels)
        assert "draws unknown" in lost
        assert "fell off the bus" in lost
        assert "cap 400 W, was 700 W" in refused
        assert "350 W enforced by the machine" in lower


async def test_the_table_of_gpus_is_made_when_it_is_asked_for(hall):
    async with hall.opened(pictures.holding()) as page:
        assert await page.count("#gpu-list tbody") == 0
        await page.evaluate("document.querySelector('#gpu-list summary').click()")
        await page.until("document.querySelectorAll('#gpu-list tbody').length", 8)
        assert "400 W, was 700 W" in await page.text("#gpu-list tbody")


async def test_hundreds_of_gpus_are_updated_in_place(hall):
    async with hall.opened(picture(0, snapshot=pictures.site(hosts=64, each=8))) as page:
        assert await page.count(".tile") == 512
        await page.evaluate("document.querySelectorAll('.tile')[300].kept = true")
        cooler = pictures.site(1, hosts=64, each=8)
        cooler = replace(cooler, gpus=tuple(replace(g, power_w=500.0) for g in cooler.gpus))
        await hall.site.show(picture(1, snapshot=cooler))
        await page.until("document.querySelectorAll('.tile')[300].textContent.startsWith('500')")
        assert await page.evaluate("document.querySelectorAll('.tile')[300].kept")
        gone = replace(cooler, gpus=cooler.gpus[:8])
        await hall.site.show(picture(2, snapshot=gone))
        await page.until("document.querySelectorAll('.tile').length", 8)
        assert await page.count(".host") == 1


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (WorkloadState.PAUSED, "paused by flexload"),
        (WorkloadState.RUNNING, "told to pause, still running"),
    ],
)
async def test_jobs_tell_a_pause_from_a_command_to_pause(hall, state, said):
    async with hall.opened(pictures.paused(state)) as page:
        assert await page.text("#jobs-list .state") == said
        assert "may be paused, caps alone fall short" in await page.text("#jobs-list")


async def test_a_job_that_somebody_else_paused_is_not_ours(hall):
    jobs = [workload("train", [0], state=WorkloadState.PAUSED)]
    async with hall.opened(picture(0, snapshot=snapshot([gpu(0)], jobs))) as page:
        assert await page.text("#jobs-list .state") == "paused by somebody else"


async def test_events_are_listed_newest_first_and_open_to_their_details(hall):
    async with hall.opened(pictures.completed()) as page:
        ids = (
            "[...document.querySelectorAll('#events-list tbody th')].map((node) => node.innerText)"
        )
        assert [text.split()[0] for text in await page.evaluate(ids)] == ["ev-1", "ev-test", "ev-0"]
        row = await page.text("#events-list tbody")
        for said in ("completed", "10.40 kW", "10.00 kW", "99.9 %", "none, 120 W below"):
            assert said in row
        left = await page.text("#events-list tbody:nth-of-type(2)")
        assert "Test" in left
        assert "out by operator ann: maintenance" in left


async def test_an_events_detail_shows_all_its_signals(hall):
    async with hall.opened(pictures.holding()) as page:
        button = "document.querySelector('.opener button')"
        assert await page.evaluate(f"{button}.ariaExpanded") == "false"
        await page.evaluate(f"{button}.click()")
        assert await page.evaluate(f"{button}.ariaExpanded") == "true"
        await page.until("document.querySelector('.detail ul').innerText.startsWith('1. ')")
        detail = await page.text(".detail")
        assert "ELECTRICITY_PRICE price: 2 EUR/MWh" in detail
        assert "1.733 kWh" in detail
        assert "25 % below baseline" in detail


async def test_a_long_book_of_events_is_cut_short_until_asked_for(hall):
    many = [record(event(event_id=f"ev-{i}", start=-86_400.0 - 3600 * i)) for i in range(50)]
    async with hall.opened(picture(0, *many)) as page:
        assert await page.count("#events-list tbody") == 20
        assert await page.text("#events-summary") == "50 events"
        assert await page.text("#events-all") == "Show all 50 events"
        await page.evaluate("document.querySelector('#events-all').click()")
        await page.until("document.querySelectorAll('#events-list tbody').length", 50)
        assert await page.evaluate("document.querySelector('#events-all').hidden")
        rows = "[...document.querySelectorAll('#events-list tbody th span:first-child')]"
        ids = await page.evaluate(f"{rows}.map((node) => node.innerText)")
        assert ids == [f"ev-{i}" for i in range(50)]
        # What a view says is newer than the book: it is shown in the same row.
        await hall.site.show(picture(0, *many[1:], record(event(event_id="ev-0", start=60.0))))
        await page.until("document.querySelector('#events-list td').innerText", "pending")
        assert await page.count("#events-list tbody") == 50


async def test_a_book_that_cannot_be_fetched_can_be_tried_again(hall):
    many = [record(event(event_id=f"ev-{i}", start=-86_400.0 - 3600 * i)) for i in range(30)]
    async with hall.opened(picture(0, *many), 1280, "*/api/v1/events*") as page:
        await page.evaluate("document.querySelector('#events-all').click()")
        failed = "Show all 30 events: they could not be loaded, try again"
        await page.until("document.querySelector('#events-all').innerText", failed)
        await page.evaluate("document.querySelector('.opener button').click()")
        assert await page.text(".detail ul") == "loading"
        await page.command("Network.setBlockedURLs", urls=[])
        await page.evaluate("document.querySelector('#events-all').click()")
        await page.until("document.querySelectorAll('#events-list tbody').length", 30)
        assert await page.text(".detail ul") == "1. level: 2"


async def test_how_many_more_events_are_to_come_counts_those_not_listed_too(hall):
    many = [record(event(event_id=f"ev-{i}", start=600.0 * (i + 1))) for i in range(40)]
    async with hall.opened(picture(0, *many)) as page:
        assert "39 more events to come" in await page.text("#event-asks")
    past = [record(event(event_id=f"ev-{i}", start=-86_400.0 * (i + 1))) for i in range(25)]
    async with hall.opened(picture(0, *past)) as page:
        assert "25 earlier events" in await page.text("#event-asks")


async def test_what_must_be_seen_is_in_banners_and_only_then(hall):
    banners = (
        "[...document.querySelectorAll('.banner')].filter((b) => b.offsetParent).map((b) => b.id)"
    )
    async with hall.opened(pictures.normal()) as page:
        assert await page.evaluate(banners) == []
        plan = Plan(shortfall_w=2_000.0, short_because=("protected: serve",))
        await hall.site.show(replace(pictures.holding(), plan=plan))
        await page.until(f"{banners}.join()", "short,limit")
        assert await page.text("#short") == "2.000 kW short: protected: serve"
        assert await page.text("#limit") == (
            "Limit in force: at most 30.00 kW, event ev-1 (25 % below baseline); 4 setpoints in force."
        )
        await hall.site.show(
            replace(pictures.normal(), stop=Stop(NOON, "operator ann", "fire drill"))
        )
        await page.until(f"{banners}.join()", "stopped")
        stopped = await page.text("#stopped")
        assert "Local stop by operator ann since" in stopped
        assert "fire drill" in stopped
        assert "flexload resume" in stopped
        await hall.site.show(
            replace(pictures.holding(), stop=Stop(NOON, "operator ann", "fire drill"))
        )
        await page.until(f"{banners}.join()", "stopped")


async def test_problems_are_listed_worst_first_and_counted_on_top(hall):
    problems = {
        "a": Raised(Problem("a", Severity.WARNING, "a warning"), NOON),
        "b": Raised(Problem("b", Severity.CRITICAL, "a disaster"), at(-60)),
    }
    async with hall.opened(replace(pictures.normal(), problems=problems)) as page:
        assert await page.text("#trouble") == "2 problems, 1 critical"
        first = await page.text("#problems li")
        assert first.startswith("critical a disaster since ")
        await hall.site.show(pictures.normal(1))
        await page.until("document.querySelector('#trouble').hidden")
        assert await page.text("#health-summary") == "No problem is known."


async def test_the_link_to_the_grid_is_shown_with_the_age_of_its_last_word(hall):
    async with hall.opened(pictures.normal()) as page:
        row = await page.text("#links tbody")
        for said in ("utility", "registered", "ago", "10 s", "OpenADR 2.0b, https://vtn.example/"):
            assert said in row


# --- nothing, little, and the unknown ------------------------------------------------------------


async def test_before_the_first_cycle_the_page_waits_and_shows_no_figures(hall):
    async with serving(live=True) as site, hall.browser.page() as page:
        await page.open(site.url)
        await page.until(
            "document.querySelector('#connection').innerText", "waiting for the first cycle"
        )
        assert await page.text("h1") == "The agent has not completed its first cycle yet."
        assert await page.count(".tile") == 0
        await site.show(pictures.normal())
        await page.until(LIVE)
        await page.until("document.querySelectorAll('.tile').length", 8)
        assert page.complaints == []


async def test_an_empty_site_says_what_there_is_not(hall):
    nothing = picture(0, snapshot=snapshot([], []))
    async with hall.opened(nothing, links=[]) as page:
        assert await page.text("#event-title") == "No event"
        assert await page.text("#gpus-summary") == "No GPU has been found."
        assert await page.text("#jobs-summary") == "No job is known."
        assert await page.text("#events-summary") == "The grid has not called any event."
        assert "No VTN is configured" in await page.text("#health-summary")
        visible = (
            "[...document.querySelectorAll('table')].filter((t) => t.checkVisibility()).length"
        )
        assert await page.evaluate(visible) == 0


async def test_what_is_not_known_reads_unknown_and_never_zero(hall):
    async with hall.opened(pictures.blind()) as page:
        figures = await page.text("#figures")
        assert figures.startswith("Power now\nunknown\nmeter unreadable")
        assert "0" not in figures
        assert (
            await page.text("#gpus-summary") == "4 GPUs on 1 host · drawing unknown · none capped"
        )
        assert await page.text(".tile-draw") == "?"


# --- live, and not -------------------------------------------------------------------------------


async def test_a_lost_agent_is_told_and_greyed_out_and_its_gap_is_filled_on_return(hall):
    faded = "getComputedStyle(document.querySelector('h1')).filter"
    points = "document.getElementById('plot').data[2].x.length"
    async with (
        serving(live=True) as site,
        Hall(site, hall.browser).opened(pictures.normal()) as page,
    ):
        await plotted(page)
        await site.server.stop()
        await page.until(LIVE, False)
        assert (await page.text("#connection")).startswith("reconnecting since ")
        banner = await page.text("#not-live")
        assert banner.startswith("Not live: reconnecting since ")
        assert "What you see is of " in banner
        assert (await page.evaluate("document.title")).startswith("not live")
        assert await page.evaluate(faded) == "grayscale(1)"
        before = await page.evaluate(points)
        address = f"127.0.0.1:{URL(site.url).port}"
        async with serving(samples(-500, 0), live=True, listen=address) as again:
            await again.show(pictures.holding())
            await page.until(LIVE)
            await page.until(f"{points} > {before + 150}")
            assert await page.evaluate(faded) == "none"
            assert await page.evaluate("document.querySelector('#not-live').hidden")
            assert "holding" in await page.text("h1")


async def test_an_agent_that_stands_still_is_not_shown_as_live(hall):
    async with hall.opened(pictures.normal()) as page:
        view = await hall.site.show(pictures.normal())
        await hall.site.server.show(moved(view, timedelta(minutes=-5)))
        await page.until(LIVE, False)
        assert (await page.text("#connection")).startswith("no new cycle since ")


async def test_a_page_that_was_hidden_catches_up_when_it_is_seen_again(hall):
    def hidden(state: str) -> str:
        return (
            f"Object.defineProperty(document, 'hidden', {{value: {state}, configurable: true}});"
            "document.dispatchEvent(new Event('visibilitychange'));"
        )

    async with hall.opened(pictures.normal()) as page:
        await plotted(page)
        before = await page.text("h1")
        await page.evaluate(hidden("true"))
        # Of samples nearer than half a second the chart keeps the first.
        latest = moved(await hall.site.show(pictures.holding()), timedelta(seconds=1))
        await hall.site.server.show(latest)
        await page.until("document.getElementById('plot').data[2].y.at(-1)", 29.48)
        assert await page.text("h1") == before
        await page.evaluate(hidden("false"))
        await page.until("document.querySelector('h1').textContent", latest["sentence"])


async def test_a_page_of_an_older_agent_loads_itself_anew(hall):
    async with hall.opened(pictures.normal()) as page:
        await page.evaluate("globalThis.old = true")
        view = await hall.site.show(pictures.normal())
        await hall.site.server.show({**view, "site": {**view["site"], "version": "0.2.0"}})
        await page.until("globalThis.old === undefined && document.body?.dataset.live === 'yes'")


async def test_a_view_that_cannot_be_read_is_left_out(hall):
    async with hall.opened(pictures.normal()) as page:
        hall.site.server._document = b'{"at": NaN'
        hall.site.server._view = {}
        async with hall.site.server._shown:
            hall.site.server._shown.notify_all()
        view = await hall.site.show(pictures.holding())
        await page.until("document.querySelector('h1').textContent", view["sentence"])


# --- hostile and narrow --------------------------------------------------------------------------


def hostile() -> Picture:
    """Names that try to be markup, wherever a name comes from elsewhere."""
    ask = event(event_id=HOSTILE, comment=HOSTILE)
    ask = replace(
        ask, signals=tuple(replace(one, name=HOSTILE, unit=HOSTILE) for one in ask.signals)
    )
    why = OptDecision(Opt.IN, HOSTILE, NOON, HOSTILE)
    gpus = [gpu(0, host=HOSTILE, name=HOSTILE, detail=HOSTILE), gpu(1, host="h" * 300)]
    jobs = [workload(HOSTILE, [0]), workload("j" * 300, [1])]
    problem = Problem("p", Severity.CRITICAL, HOSTILE)
    return picture(
        60,
        record(ask, opt=why),
        record(event(event_id="e" * 300, start=-7200.0)),
        snapshot=snapshot(gpus, jobs, when=at(60)),
        problems={"p": Raised(problem, NOON)},
        plan=Plan(shortfall_w=1.0, short_because=(HOSTILE,)),
        stop=Stop(NOON, HOSTILE, HOSTILE),
        governor_note=HOSTILE,
        ledger=(replace(pictures.cap(0), reason=HOSTILE),),
    )


async def test_names_that_try_to_be_markup_stay_text(hall):
    async with hall.opened(
        hostile(), site={"name": HOSTILE, "version": "0.1.0", "demo": True}
    ) as page:
        await plotted(page)
        await page.evaluate("document.querySelectorAll('.opener button').forEach((b) => b.click())")
        await page.evaluate("document.querySelector('#gpu-list summary').click()")
        await page.evaluate("document.querySelector('.tile').focus()")
        await page.until("document.querySelectorAll('#gpu-list tbody').length", 2)
        assert await page.count("img, b, script:not([src])") == 0
        assert "owned" not in await page.evaluate("document.title.replaceAll('`owned`', '')")
        everything = await page.evaluate("document.body.textContent")
        assert everything.count(HOSTILE.replace("\u202e", "\ufffd")) > 15
        assert "\u202e" not in everything
        # An id that cannot be seen for what it is must not become a line to paste.
        assert await page.evaluate("document.querySelector('#event-command').hidden")


@pytest.mark.parametrize("of", [pictures.holding, pictures.completed, pictures.blind, hostile])
async def test_a_phone_shows_it_without_scrolling_sideways(hall, of):
    async with hall.opened(of(), width=360) as page:
        await page.until("document.querySelector('#plot .main-svg') !== null")
        await page.evaluate("document.querySelectorAll('.opener button').forEach((b) => b.click())")
        await page.evaluate("document.querySelector('#gpu-list summary').click()")
        await page.until(
            "document.querySelectorAll('#gpu-list tbody').length === "
            "document.querySelectorAll('.tile').length"
        )
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wide) == 0
        beyond = """[...document.querySelectorAll('main *')].filter((node) =>
            !node.closest('.unseen, #plot') && node.getBoundingClientRect().right > 361
        ).map((node) => node.outerHTML.slice(0, 120))"""
        assert await page.evaluate(beyond) == []


# --- the modules on their own --------------------------------------------------------------------


async def test_numbers_are_worded_as_the_agent_words_them(bare):
    for call, said in (
        ("power(null)", "unknown"),
        ("power(0)", "0 W"),
        ("power(20629.2)", "20.63 kW"),
        ("power(-1500)", "-1.500 kW"),
        ("power(1234567)", "1.235 MW"),
        ("power(NaN)", "unknown"),
        ("percent(0.99999)", "99.9 %"),
        ("percent(0.07)", "7.0 %"),
        ("percent(1)", "100 %"),
        ("duration(119)", "119 s"),
        ("duration(120)", "2 min"),
        ("duration(3900)", "65 min"),
        ("duration(7500)", "2 h 5 min"),
        ("duration(null)", "unknown"),
        ("countdown(103000)", "1:43"),
        ("countdown(-5)", "0:00"),
        ("countdown(7509000)", "2:05:09"),
        ("energy(1733.3)", "1.733 kWh"),
    ):
        assert (call, await module(bare, "format", f"m.{call}")) == (call, said)


async def test_a_command_is_one_quoted_word_for_each_id_or_none_at_all(bare):
    for event_id, said in (
        ("ev-1", "flexload opt-out ev-1"),
        ("a b", "flexload opt-out 'a b'"),
        ("x; rm -rf ~", "flexload opt-out 'x; rm -rf ~'"),
        ("it's", "flexload opt-out 'it'\\''s'"),
        ("$(reboot)", "flexload opt-out '$(reboot)'"),
    ):
        asked = json.dumps({"event_id": event_id, "ven": "v"})
        command = await module(bare, "command", f"m.eventCommand('opt-out', {asked}, false, null)")
        assert command == f'{said} --reason "..."'
    for event_id in ("a\nb", "a\x1b[2J", "\u202etxt", "\x00"):
        asked = json.dumps({"event_id": event_id, "ven": "v"})
        asking = f"m.eventCommand('opt-in', {asked}, false, null)"
        assert await module(bare, "command", asking) is None
    asked = json.dumps({"event_id": "-x", "ven": "north"})
    assert await module(bare, "command", f"m.eventCommand('opt-out', {asked}, true, null)") == (
        "flexload opt-out --ven north --reason \"...\" -- '-x'"
    )
    assert await module(bare, "command", "m.siteCommand('resume', '/tmp/a b')") == (
        "flexload resume --socket '/tmp/a b'"
    )


async def test_the_charts_memory_does_not_grow_with_time(bare):
    kept = """(() => {
        const series = new m.Series(%d);
        for (let i = 0; i < 100000; i += 1) series.append({at: i * 1000, power: 1, ceiling: null});
        return series.columns(-Infinity).at.length;
    })()"""
    assert await module(bare, "series", kept % 600_000) == 601
    assert 3590 <= await module(bare, "series", kept % 21_600_000) <= 3601


async def test_a_gap_in_the_samples_is_a_gap_in_the_line(bare):
    powers = """(() => {
        const series = new m.Series(600000);
        series.append({at: 50000, power: 5, ceiling: 5});
        series.replace({at: [1, 2, 30], power_w: [1, null, 3], ceiling_w: [null, null, null]});
        return series.columns(0).power;
    })()"""
    assert await module(bare, "series", powers) == [1, None, None, 3, None, 5]
