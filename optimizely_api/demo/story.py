"""The contents of the demo: the shop, its experiments, and the behaviour of its visitors.

The rates generate the visitors. The services do not know them and compute their own from the events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "Fern & Oak (demo)"
# The token of a local demo is no secret. It is the same on every machine, so that documentation can show it.
TOKEN = "2:demo-fern-and-oak-furniture"  # noqa: S105
SEED = 20_170_321

# Attribute ids as an SDK would find them in a datafile; that of `customer` is the entity's, once there is one.
ATTRIBUTE_IDS = {
    "browser": "30000000001",
    "device": "30000000002",
    "source": "30000000003",
    "customer": "30000000004",
}
# (value, share of the visitors)
DEVICES = (("desktop", 44), ("mobile", 28), ("iphone", 20), ("tablet", 5), ("ipad", 3))
BROWSERS = (("chrome", 58), ("safari", 27), ("firefox", 11), ("opera", 4))
SOURCES = (("search", 41), ("direct", 29), ("campaign", 18), ("referral", 12))
CUSTOMERS = (("new", 55), ("returning", 33), ("club", 12))

# Relative number of visitors by hour of the day.
HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 11, 12, 11, 10, 10, 11, 12, 14, 16, 17, 14, 9, 5)


@dataclass(frozen=True)
class Event:
    """An event that visitors cause."""

    key: str
    name: str
    category: str = "other"
    event_type: str = "custom"


@dataclass(frozen=True)
class Behaviour:
    """How often the visitors of each variation cause an event.

    `rates` has the share of converting visitors for each variation, of the visitors with the event `after` if that is
    set. A converting visitor causes the event `times` times on average. `revenue` is (typical cents, spread), `value` a
    range.
    """

    event: str
    rates: tuple[float, ...]
    times: float = 1.0
    after: str | None = None
    revenue: tuple[int, float] | None = None
    value: tuple[float, float] | None = None


@dataclass(frozen=True)
class Page:
    """A page of the site, where experiments for the web run."""

    key: str
    name: str
    path: str


@dataclass(frozen=True)
class Experiment:
    """An experiment; days count back from the moment the demo is loaded."""

    key: str
    name: str
    description: str
    variations: tuple[str, ...]
    metrics: tuple[dict[str, Any], ...]  # `event` instead of `event_id`
    visitors: int = 0
    behaviours: tuple[Behaviour, ...] = ()
    weights: tuple[int, ...] = (5000, 5000)
    started: float | None = None  # days ago; None: not started
    ended: float = 0.0  # days ago; 0: it still runs
    end: str = ""  # pause, archive, schedule, campaign
    campaign: str | None = None
    pages: tuple[str, ...] = ()  # their keys; those of the first experiment of a campaign are the campaign's


@dataclass(frozen=True)
class Project:
    """A project with its events and experiments."""

    name: str
    description: str
    platform: str
    events: tuple[Event, ...]
    experiments: tuple[Experiment, ...]
    confidence_threshold: float = 0.9
    sdks: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = field(default=())
    pages: tuple[Page, ...] = ()


def converting(event: str, direction: str = "increasing") -> dict[str, Any]:
    """A metric: the share of converting visitors."""
    return {"event": event, "aggregator": "unique", "scope": "visitor", "winning_direction": direction}


def counted(event: str, direction: str = "increasing") -> dict[str, Any]:
    """A metric: the number of an event's conversions per visitor."""
    return {"event": event, "aggregator": "count", "scope": "visitor", "winning_direction": direction}


def valued(event: str, direction: str = "increasing") -> dict[str, Any]:
    """A metric: the sum of an event's values per visitor."""
    summed = {"aggregator": "sum", "field": "value", "scope": "visitor"}
    return {"event": event, **summed, "winning_direction": direction}


REVENUE: dict[str, Any] = {
    "aggregator": "sum",
    "field": "revenue",
    "scope": "visitor",
    "winning_direction": "increasing",
}

VIEWED = "product_viewed"
ADDED = "added_to_cart"
ORDERED = "order_placed"
SIGNED_UP = "newsletter_signed_up"
FRONT, PRODUCT, CART = "front_page", "product_page", "cart"
BASKET = (8_900, 0.75)  # cents, spread: usually a lamp, sometimes a wardrobe


def shopping(
    viewed: tuple[float, ...], added: tuple[float, ...], ordered: tuple[float, ...]
) -> tuple[Behaviour, ...]:
    """The behaviour in a shop: view a product, add to cart, order."""
    return (
        Behaviour(VIEWED, viewed, times=1.9),
        Behaviour(ADDED, added, times=1.3),
        Behaviour(ORDERED, ordered, times=1.05, after=ADDED, revenue=BASKET, value=(1, 5)),
    )


SHOP = Project(
    name="Fern & Oak Shop",
    description="The web shop for furniture and plants.",
    platform="web",
    confidence_threshold=0.95,
    events=(
        Event(VIEWED, "Product viewed", event_type="pageview"),
        Event(ADDED, "Added to cart", "add_to_cart"),
        Event(ORDERED, "Order placed", "purchase"),
        Event(SIGNED_UP, "Newsletter signed up", "sign_up"),
    ),
    campaigns=("Welcome back", "Spring sale banners"),
    pages=(
        Page(FRONT, "Front page", "/"),
        Page(PRODUCT, "Product", "/products/monstera"),
        Page(CART, "Cart", "/cart"),
    ),
    experiments=(
        Experiment(
            key="free_shipping_bar",
            name="Free shipping bar on every page",
            description="A thin bar that says from which amount on we ship for free leads to more orders.",
            pages=(FRONT,),
            variations=("No bar", "Bar with the amount still missing"),
            metrics=(converting(ORDERED), REVENUE, counted(ADDED), valued(ORDERED)),
            visitors=14_000,
            behaviours=shopping((0.52, 0.53), (0.24, 0.29), (0.34, 0.39)),
            started=24,
        ),
        Experiment(
            key="photos_first",
            name="Product page: photos, facts or reviews first",
            description="What stands at the top of the product page decides who reads on.",
            pages=(FRONT, PRODUCT),
            variations=("Facts first", "Photos first", "Reviews first"),
            weights=(3334, 3333, 3333),
            metrics=(converting(ADDED), counted(VIEWED), REVENUE),
            visitors=9_000,
            behaviours=shopping((0.50, 0.57, 0.50), (0.22, 0.235, 0.18), (0.33, 0.33, 0.33)),
            started=19,
        ),
        Experiment(
            key="short_newsletter_form",
            name="Newsletter form with one field",
            description="Asking for the address only brings more readers than asking for the name as well.",
            pages=(FRONT,),
            variations=("Name and address", "Address only"),
            metrics=(converting(SIGNED_UP),),
            visitors=4_000,
            behaviours=(
                Behaviour(VIEWED, (0.48, 0.48), times=1.7),
                Behaviour(SIGNED_UP, (0.045, 0.056)),
            ),
            started=21,
            ended=6,
            end="pause",
        ),
        Experiment(
            key="guest_checkout",
            name="Checkout without an account",
            description="Visitors who may order as guests order more often.",
            pages=(CART,),
            variations=("Account needed", "Guests welcome"),
            metrics=(converting(ORDERED), REVENUE),
            visitors=6_000,
            behaviours=shopping((0.51, 0.51), (0.25, 0.25), (0.27, 0.43)),
            started=27,
            ended=9,
            end="schedule",
        ),
        Experiment(
            key="gift_wrap_offer",
            name="Gift wrap offered in the cart",
            description="Shown before the address is asked for, the offer brings extra revenue.",
            variations=("No offer", "Offer in the cart"),
            metrics=(REVENUE, converting(ORDERED)),
        ),
        Experiment(
            key="welcome_back_last_seen",
            name="Returning visitors: what you looked at",
            description="Products of the last visit on the front page.",
            campaign="Welcome back",
            pages=(FRONT,),
            variations=("Holdback", "Last seen products"),
            weights=(2500, 7500),
            metrics=(converting(ORDERED), REVENUE),
            visitors=3_000,
            behaviours=shopping((0.55, 0.66), (0.27, 0.31), (0.36, 0.38)),
            started=15,
        ),
        Experiment(
            key="welcome_back_club",
            name="Club members: early access",
            description="New collections two days earlier, for members of the club.",
            campaign="Welcome back",
            pages=(FRONT,),
            variations=("Holdback", "Early access"),
            weights=(2500, 7500),
            metrics=(converting(ORDERED), REVENUE),
            visitors=2_500,
            behaviours=shopping((0.60, 0.62), (0.33, 0.335), (0.41, 0.42)),
            started=15,
        ),
        Experiment(
            key="early_bird_banner",
            name="Early bird banner",
            description="A countdown to the end of the sale.",
            campaign="Spring sale banners",
            pages=(FRONT,),
            variations=("No banner", "Countdown"),
            metrics=(converting(ORDERED),),
            visitors=1_500,
            behaviours=shopping((0.50, 0.51), (0.23, 0.235), (0.33, 0.33)),
            started=18,
            ended=11,
            end="campaign",
        ),
    ),
)

SLOT = "delivery_slot_chosen"
CALLED = "support_called"
ORDER_API = Project(
    name="Fern & Oak Order API",
    description="The server that takes orders and plans deliveries.",
    platform="custom",
    sdks=("python",),
    events=(
        Event(SLOT, "Delivery slot chosen", "convert"),
        Event(CALLED, "Support called"),
    ),
    experiments=(
        Experiment(
            key="delivery_slot_ranking",
            name="Delivery slots ranked by distance",
            description="Slots when a van is near anyway come first; fewer calls, and cheaper deliveries.",
            variations=("By date", "By distance"),
            metrics=(converting(SLOT), valued(SLOT), converting(CALLED, "decreasing")),
            visitors=4_500,
            behaviours=(
                Behaviour(SLOT, (0.71, 0.72), times=1.2, value=(2.0, 9.5)),
                Behaviour(CALLED, (0.085, 0.050), times=1.4),
            ),
            started=13,
        ),
        Experiment(
            key="stock_aware_search",
            name="Search prefers what is in stock",
            description="Results that can be delivered this week move up.",
            variations=("By relevance", "By relevance and stock"),
            metrics=(converting(SLOT),),
            visitors=2_000,
            behaviours=(Behaviour(SLOT, (0.64, 0.645), times=1.1, value=(2.0, 9.5)),),
            started=26,
            ended=16,
            end="archive",
        ),
    ),
)

WISHED = "wish_list_used"
APP = Project(
    name="Fern & Oak App",
    description="The app for iPhone and iPad.",
    platform="ios",
    events=(
        Event(WISHED, "Wish list used", "save"),
        Event(ORDERED, "Order placed in the app", "purchase"),
    ),
    experiments=(
        Experiment(
            key="wish_list_tab",
            name="Wish list in the tab bar",
            description="One tap instead of three, at the cost of the search tab.",
            variations=("Search tab", "Wish list tab"),
            metrics=(counted(WISHED), converting(ORDERED), REVENUE),
            visitors=3_500,
            behaviours=(
                Behaviour(WISHED, (0.22, 0.41), times=2.2),
                Behaviour(ORDERED, (0.090, 0.066), revenue=BASKET, value=(1, 5)),
            ),
            started=10,
        ),
        Experiment(
            key="onboarding_three_steps",
            name="Onboarding in three steps",
            description="Style, rooms, notifications, and nothing else.",
            variations=("Seven steps", "Three steps"),
            metrics=(converting(ORDERED),),
        ),
    ),
)

PROJECTS = (SHOP, ORDER_API, APP)
HEADLINE = "free_shipping_bar"  # the experiment of the request that `make run` prints
EXPERIMENTS = sum(len(project.experiments) for project in PROJECTS)
VISITORS = sum(experiment.visitors for project in PROJECTS for experiment in project.experiments)
