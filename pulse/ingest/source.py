"""Where a visit came from: referrer, source name and channel.

The channels and the order of their rules follow Google Analytics' default channel group
(https://support.google.com/analytics/answer/9756891), with these differences: a click id is a sign of paid traffic
beside the medium, AI assistants have a channel, an author's explicit medium (email, affiliate, sms, push, audio) counts
before what kind of site the source is, and what no rule names is "Campaign" rather than "Unassigned".
"""

import re
from typing import NamedTuple

from pulse.ingest.memo import Memo
from pulse.ingest.page import PATH_LENGTH, Hints, Utm, split_host, split_url
from pulse.ingest.source_table import CLICK_IDS, SHORT_NAMES, SITES

DIRECT = "Direct"


class Origin(NamedTuple):
    """Where a visit came from: `referrer` is host and path; all but the channel are None for a direct visit."""

    referrer: str | None
    source: str | None
    channel: str
    utm: Utm


class Referral(NamedTuple):
    """A referrer's host without `www.`, host and path, and the site it is, if known: (name, kind)."""

    host: str
    text: str
    site: tuple[str, str] | None


_NO_UTM = Utm()
_DIRECT = Origin(None, None, DIRECT, _NO_UTM)
_APP_SCHEMES = {"android-app", "ios-app"}
_ANY_SUFFIX = {domain: site for domain, site in SITES.items() if "." not in domain}
_SITE_NAMES = {site[0].lower(): site for site in SITES.values()}

_PAID = re.compile(r".*cp.*|ppc|retargeting|paid.*")
_SHOPPING_CAMPAIGN = re.compile(r"(?:.*[^a-df-z]|)(?:shop).*|.*shopping.*")
_DISPLAY = {"display", "banner", "expandable", "interstitial", "cpm"}
_SOCIAL = {"social", "social-network", "social-media", "sm", "social network", "social media"}
_EMAIL = {"email", "e-mail", "e_mail", "e mail", "newsletter"}
_REFERRAL = {"referral", "app", "link"}
_PAID_BY_KIND = {
    "shopping": "Paid Shopping",
    "search": "Paid Search",
    "social": "Paid Social",
    "video": "Paid Video",
}
_ORGANIC_BY_KIND = {
    "shopping": "Organic Shopping",
    "social": "Organic Social",
    "video": "Organic Video",
    "search": "Organic Search",
    "ai": "AI Assistants",
    "email": "Email",
    "site": "Referral",
}


def find_site(host: str) -> tuple[str, str] | None:
    """Return name and kind of a known site by the longest suffix of its host; None for an unknown one."""
    labels = host.split(".")
    for start in range(len(labels)):
        site = SITES.get(".".join(labels[start:]))
        if site is not None:
            return site
        # google.de, google.co.uk: a name that owns every suffix, followed by one or two short labels.
        rest = labels[start + 1 :]
        if labels[start] in _ANY_SUFFIX and 1 <= len(rest) <= 2 and all(len(label) <= 3 for label in rest):
            return _ANY_SUFFIX[labels[start]]
    return None


def _parse_referrer(text: str) -> Referral | None:
    scheme, authority, path, _, _ = split_url(text.strip())
    if authority is None and not scheme and "/" not in path[:1]:  # "example.com/page", as server-side senders write it
        authority, _, path = path.partition("/")
        path = f"/{path}"
        if "." not in authority:
            return None
    host = split_host(authority)
    if host is None:
        return None
    host = host.removeprefix("www.")
    shown = host if scheme in _APP_SCHEMES else (host + path).rstrip("/")
    return Referral(host, shown[:PATH_LENGTH], find_site(host))


_REFERRALS: Memo[str, Referral | None] = Memo(_parse_referrer, size=4096)


def _is_own(referrer_host: str, hostname: str) -> bool:
    hostname = hostname.removeprefix("www.")
    return (
        referrer_host == hostname
        or referrer_host.endswith("." + hostname)
        or hostname.endswith("." + referrer_host)
    )


def _attribute(key: tuple[str | None, str | None, Hints | None]) -> Origin:
    referrer, hostname, hints = key
    referral = _REFERRALS[referrer] if referrer else None
    if referral is not None and hostname is not None and _is_own(referral.host, hostname):
        referral = None
    if hints is None:
        if referral is None:
            return _DIRECT
        site, site_kind = referral.site or (referral.host, "site")
        return Origin(referral.text, site, _ORGANIC_BY_KIND[site_kind], _NO_UTM)
    name, kind = _name_source(hints, referral)
    channel = _choose_channel(name, kind, hints, referral is not None)
    return Origin(referral.text if referral else None, name, channel, hints.utm or _NO_UTM)


def _name_source(hints: Hints, referral: Referral | None) -> tuple[str | None, str | None]:
    """Return the source's name and kind: utm_source, else `?ref=`, else the referrer, else the click id's owner.

    The name is one that dashboards group by: `facebook`, `fb` and `m.facebook.com` all give Facebook.
    """
    said = (hints.utm.source if hints.utm else None) or hints.ref
    if said:
        return _know(said) or (said, None)
    if referral is not None:
        return referral.site or (referral.host, "site")
    if hints.click_id:
        return SITES.get(CLICK_IDS[hints.click_id][0], (None, None))
    return None, None


def _know(said: str) -> tuple[str, str] | None:
    text = said.lower().removeprefix("https://").removeprefix("http://").removeprefix("www.").rstrip("/")
    text = SHORT_NAMES.get(text, text)
    return SITES.get(text) or _SITE_NAMES.get(text) or (find_site(text) if "." in text else None)


def _choose_channel(name: str | None, kind: str | None, hints: Hints, has_referrer: bool) -> str:
    utm = hints.utm or _NO_UTM
    medium = (utm.medium or "").lower()
    campaign = (utm.campaign or "").lower()
    said = (utm.source or "").lower()
    click = CLICK_IDS[hints.click_id][1] if hints.click_id else ""
    if said == "(direct)" and medium in ("", "(not set)", "(none)"):
        return DIRECT
    if "cross-network" in campaign:
        return "Cross-network"
    is_shopping = kind == "shopping" or _SHOPPING_CAMPAIGN.fullmatch(campaign) is not None
    # A click id says "paid" where the author has not said anything else by a medium.
    if _PAID.fullmatch(medium) or (click == "paid" and not medium):
        if is_shopping:
            return "Paid Shopping"
        by_kind = _PAID_BY_KIND.get(kind or "")
        return by_kind or ("Display" if medium in _DISPLAY else "Paid Other")
    if medium in _DISPLAY or (click == "display" and not medium):
        return "Display"
    by_medium = _channel_by_medium(medium, said)
    if by_medium is not None:
        return by_medium
    if is_shopping:
        return "Organic Shopping"
    if click == "email":
        return "Email"
    if kind is not None and kind != "site":
        return _ORGANIC_BY_KIND[kind]
    if medium == "organic":
        return "Organic Search"
    if kind == "site" or medium in _REFERRAL:
        return "Referral"
    if utm.source is None and utm.medium is None and utm.campaign is None and (has_referrer or name):
        return "Referral"
    return "Campaign"


def _channel_by_medium(medium: str, said: str) -> str | None:
    """Return the channel that the author's own words name; `said` is utm_source."""
    if medium in _EMAIL or said in _EMAIL:
        return "Email"
    if medium in _SOCIAL:
        return "Organic Social"
    if "video" in medium:
        return "Organic Video"
    if medium in ("affiliate", "affiliates"):
        return "Affiliates"
    if medium == "audio":
        return "Audio"
    if "sms" in (medium, said):
        return "SMS"
    if medium.endswith("push") or "mobile" in medium or "notification" in medium or said == "firebase":
        return "Mobile Push"
    return None


_ORIGINS: Memo[tuple[str | None, str | None, Hints | None], Origin] = Memo(_attribute, size=4096)


def attribute(referrer: str | None, hostname: str | None, hints: Hints | None) -> Origin:
    """Return where a visit to `hostname` came from; a referrer of the same site counts as none."""
    return _ORIGINS[(referrer, hostname, hints)]
