"""A small coffee shop whose pages are tracked: something to click through on one's own machine. Development only."""

from dataclasses import dataclass

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue

from pulse.errors import NotFound
from pulse.storage.projects import DEVELOPMENT_KEY


@dataclass(frozen=True, slots=True)
class Article:
    """One entry of the shop's journal."""

    slug: str
    title: str
    summary: str
    minutes: int
    paragraphs: tuple[str, ...]


ARTICLES = (
    Article(
        "grind-size",
        "Grind size, explained with sand",
        "Why the same beans taste sour on Monday and bitter on Tuesday.",
        4,
        (
            "Water takes what it can reach. Coarse grounds give up their acids first and keep the rest, so the cup is"
            " thin and sour. Fine grounds give up everything, the bitter parts last.",
            "Start with something like beach sand for a filter, table salt for a moka pot and flour that has been left"
            " out in the rain for espresso. Change one thing at a time and write it down.",
            "If a cup is sour, grind finer. If it is bitter, grind coarser. That is nine tenths of the craft; the last"
            " tenth is clean equipment.",
        ),
    ),
    Article(
        "cold-brew",
        "Cold brew without the fuss",
        "Twelve hours, a jar and a sieve. Nothing else is needed.",
        3,
        (
            "Put eighty grams of coarse coffee in a jar, pour a litre of cold water over it, stir once and go to bed.",
            "In the morning, pour it through a sieve and then through a paper filter. It keeps for a week in the"
            " fridge and takes milk or tonic equally well.",
        ),
    ),
    Article(
        "sidamo-harvest",
        "Letters from the Sidamo harvest",
        "Three weeks with the people who grow our house coffee.",
        7,
        (
            "The road ends two hours before the farm does. From there, everything that leaves the valley leaves it on"
            " somebody's back, which is why the cherries are dried where they are picked.",
            "Workneh turns his beds every half hour from sunrise on. He says the smell changes at noon on the ninth"
            " day, from fruit to bread, and that this is when to stop.",
        ),
    ),
)

PLANS = (
    ("taster", "Taster", 9, "One bag a month", ("250 g, whole or ground", "Pause whenever you like")),
    ("house", "House", 16, "Two bags a month", ("2 × 250 g, any roast", "Free delivery", "First pick of new lots")),
    ("office", "Office", 48, "Two kilos a month", ("2 kg of beans", "A grinder on loan", "One monthly invoice")),
)

PRICE_LIST = "plan,price_eur,grams_a_month\n" + "".join(
    f"{slug},{price},{grams}\n" for (slug, _, price, _, _), grams in zip(PLANS, (250, 500, 2000), strict=True)
)


def make_blueprint() -> Blueprint:
    """The shop's pages under `/demo`."""
    shop = Blueprint("demo", __name__, url_prefix="/demo")

    @shop.context_processor
    def key() -> dict[str, str]:
        return {"api_key": DEVELOPMENT_KEY}

    @shop.get("", strict_slashes=False)
    def home() -> ResponseReturnValue:
        return render_template("demo/home.html", articles=ARTICLES[:2])

    @shop.get("/pricing")
    def pricing() -> ResponseReturnValue:
        return render_template("demo/pricing.html", plans=PLANS)

    @shop.get("/blog")
    def blog() -> ResponseReturnValue:
        return render_template("demo/blog.html", articles=ARTICLES)

    @shop.get("/blog/<slug>")
    def article(slug: str) -> ResponseReturnValue:
        for found in ARTICLES:
            if found.slug == slug:
                return render_template("demo/article.html", article=found)
        raise NotFound("There is no such article.")

    @shop.get("/menu")
    @shop.get("/menu/<drink>")
    def menu(drink: str = "") -> ResponseReturnValue:
        return render_template("demo/menu.html", drink=drink)

    @shop.get("/price-list.csv")
    def price_list() -> Response:
        return Response(PRICE_LIST, content_type="text/csv; charset=utf-8")

    return shop
